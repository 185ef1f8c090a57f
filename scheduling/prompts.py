"""Conditioning that changes from frame to frame: texts of a schedule, encoded and interpolated.

The numbers are those of docs/behaviour.md, "Scheduled texts".
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from torch.nn import functional

from .grammar import ScheduledText
from .text_error import cut
from .values import log_schedule, runs

KEY = re.compile(r"[A-Za-z0-9_]+")
KEY_IN_TEXT = re.compile(f"`({KEY.pattern})`")
ALMOST_PARALLEL = 0.9995
COMMAS = ", \t\r\n"
OF_ENTRY = ("hooks", "clip_start_percent", "clip_end_percent")
# Of encoded prompts: more would fill the memory. Enough for 36,000 frames of SD1.5, or 13,000 of SDXL.
MOST_BYTES = 8 << 30
# Of all texts that values make of the prompts: of 20,000 frames each may still be 5,000 characters long.
MOST_CHARACTERS = 100_000_000
MOST_NAMES = 10  # of unknown keys in the log

# VALUES_REPLACE: a key and its value for each frame, in the order in which they were added. The last of a key counts.
Replacements = tuple[tuple[str, tuple[float, ...]], ...]
Conditioning = list[list]
Interpolation = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def with_replacement(key: str, values: Iterable[float], previous: Replacements = ()) -> Replacements:
    """``previous``, and ``values`` for `key` in texts: one for each frame, of which the last serves all that follow."""
    if not KEY.fullmatch(key):
        logging.warning(
            "[AnimateDiff] value_key is '%s', so nothing is replaced. "
            "It has to be a name of the characters a-z, A-Z, 0-9 and _, such as zoom.",
            cut(key),
        )
        return previous
    values = tuple(values)
    if not values:
        raise ValueError(f"The list of values for '{cut(key)}' is empty. Connect one with a value for each frame.")
    return (*previous, (key, values))


@dataclass(frozen=True)
class Texts:
    """What becomes of a scheduled prompt at a frame: texts before and behind it, and values in place of keys."""

    prepend: str = ""
    append: str = ""
    replacements: Replacements = ()

    def joined(self, prompt: str) -> str:
        """Commas go between the parts, unless the prompt has them already."""
        before, behind = self.prepend.lstrip().rstrip(COMMAS), self.append.rstrip().lstrip(COMMAS)
        if before:
            prompt = f"{before}{'' if prompt.startswith(',') else ', '}{prompt}"
        if behind:
            prompt = f"{prompt}{' ' if prompt.endswith(',') else ', '}{behind}"
        return prompt

    def over_frames(self) -> Callable[[str, int], str]:
        """A function of prompt and frame. Equal texts are made once. Raises ValueError for too many characters in all."""
        values = dict(self.replacements)
        last = max(map(len, values.values()), default=1) - 1
        characters = 0

        @cache
        def parts(prompt: str) -> list[str]:
            """Texts and, between them, keys."""
            return KEY_IN_TEXT.split(self.joined(prompt))

        @cache
        def at(prompt: str, frame: int) -> str:
            nonlocal characters
            texts = list(parts(prompt))
            for i, key in enumerate(texts[1::2]):
                of_key = values.get(key)
                texts[2 * i + 1] = f"`{key}`" if of_key is None else str(of_key[min(frame, len(of_key) - 1)])
            text = "".join(texts)
            characters += len(text)
            if characters > MOST_CHARACTERS:
                raise ValueError(
                    f"The texts that values_replace makes of the prompts have more than {MOST_CHARACTERS} characters. "
                    "Shorten the prompts, or schedule fewer frames."
                )
            return text

        @cache
        def varies(prompt: str) -> bool:
            return not values.keys().isdisjoint(parts(prompt)[1::2])

        return lambda prompt, frame: at(prompt, min(frame, last) if varies(prompt) else 0)

    def unknown_keys(self, prompts: Iterable[str]) -> list[str]:
        """Keys in texts for which there are no values: they stay as they are."""
        named = {key for prompt in prompts for key in KEY_IN_TEXT.findall(self.joined(prompt))}
        return sorted(named - dict(self.replacements).keys())


@dataclass(frozen=True, slots=True)
class Blend:
    """A frame that lies at ``weight`` (0 to 1) of the way from one text to another."""

    frame: int
    start: str
    end: str
    weight: float

    def __str__(self) -> str:
        if self.weight in (0, 1):
            return f'{self.frame} = "{self.end if self.weight else self.start}"'
        return f'{self.frame} = "{self.start}" -> "{self.end}" at {self.weight:.4f}'


def blends_per_run(schedule: ScheduledText, text: Callable[[str, int], str]) -> list[list[Blend]]:
    """The frames of the clip in the order in which they are filled: later blends replace earlier ones of their frame.

    ``text`` makes the text of a prompt at a frame. Heeds Stop.
    """
    filled, reached = [], {}
    for run in runs(schedule):
        inside = run.within(schedule.frames)
        start, end = run.start, run.end
        weights = torch.zeros(1).expand(len(run.frames)) if start is end else torch.linspace(0, 1, len(run.frames))
        filled.append([])
        for frame, weight in zip(run.frames[inside], weights[inside].tolist(), strict=True):
            comfy.model_management.throw_exception_if_processing_interrupted()
            filled[-1].append(Blend(frame, text(start.value, frame), text(end.value, frame), weight))
            reached[frame] = end if weight else start
    prompt = reached[max(reached)].value
    rest = ((frame, text(prompt, frame)) for frame in range(max(reached) + 1, schedule.frames))
    return [*filled, [Blend(frame, written, written, 0.0) for frame, written in rest]]


def prompt_of_each_frame(schedule: ScheduledText, compounding: bool) -> list[str]:
    """The prompt, as it is written in the schedule, that each frame of the clip shows most of; see scheduled_conditioning."""
    shown = {}
    for run in blends_per_run(schedule, lambda prompt, _frame: prompt):
        left = 1.0  # of the first prompt of the run
        for blend in run:
            left = (left if compounding else 1.0) * (1 - blend.weight)
            shown[blend.frame] = blend.start if left >= 0.5 else blend.end
    return [shown[frame] for frame in range(schedule.frames)]


def lerp(start: torch.Tensor, end: torch.Tensor, weight: float) -> torch.Tensor:
    return start * (1 - weight) + end * weight


def slerp(start: torch.Tensor, end: torch.Tensor, weight: float) -> torch.Tensor:
    """Along the arc between the two tensors as wholes; like lerp where they are almost parallel, or one is zero."""
    cosine = (start / start.norm() * (end / end.norm())).sum()
    if not cosine.abs() <= ALMOST_PARALLEL:  # also where it is not a number
        return lerp(start, end, weight)
    angle = cosine.acos()
    return (start * ((1 - weight) * angle).sin() + end * (weight * angle).sin()) / angle.sin()


INTERPOLATIONS: Mapping[str, Interpolation] = {"lerp": lerp, "slerp": slerp}


@dataclass(frozen=True)
class Encoded:
    """A text as a CLIP sees it: ``cond`` (1, tokens, channels), ``pooled`` (1, channels) or None."""

    cond: torch.Tensor
    pooled: torch.Tensor | None


def encode(clip, text: str) -> list[tuple[Encoded, dict]]:
    """``text`` encoded, with what its conditioning entry needs besides; once for each range of a CLIP's scheduled hooks."""
    tokens = clip.tokenize(text)
    if clip.use_clip_schedule and clip.patcher.forced_hooks is not None:
        entries = clip.encode_from_tokens_scheduled(tokens, show_pbar=False)
        return [
            (Encoded(cond, options.get("pooled_output")), {key: options[key] for key in OF_ENTRY if key in options})
            for cond, options in entries
        ]
    return [(Encoded(*clip.encode_from_tokens(tokens, return_pooled=True)), clip.add_hooks_to_dict({}))]


def padded(cond: torch.Tensor, tokens: int) -> torch.Tensor:
    """``(1, t, channels)`` -> ``(1, tokens, channels)``, with zeros on both sides."""
    missing = tokens - cond.shape[1]
    return functional.pad(cond, (0, 0, missing // 2, missing - missing // 2))


def scheduled_conditioning(
    clip,
    schedule: ScheduledText,
    texts: Texts,
    interpolate: Interpolation = lerp,
    compounding: bool = True,
    log: bool = False,
) -> Conditioning:
    """CONDITIONING with one cond for each frame: an entry, or one for each range of the CLIP's scheduled hooks.

    With ``compounding``, as in the incumbent, each interpolated frame is where the way of the next one begins, so that between
    entries changes come early (0, 0.25, 0.625, 0.906, 1 instead of 0, 0.25, 0.5, 0.75, 1), and the pooled output
    jumps to that of the later entry. Without, both change evenly.
    """
    prompts = [entry.value for entry in schedule.entries]
    text = texts.over_frames()
    first = text(prompts[0], 0)
    encoded, memory = {first: encode(clip, first)}, Memory(schedule.frames)
    memory.add(encoded[first])
    filled = blends_per_run(schedule, text)
    if log:
        frames = {blend.frame: blend for run in filled for blend in run}
        log_schedule(schedule.frames, lambda frame: str(frames[frame]))
    if unknown := texts.unknown_keys(prompts):
        logging.warning(
            "[AnimateDiff] No values for %s in the scheduled prompts: left as written. Add Values Replace provides them.",
            ", ".join(
                [*(f"`{cut(key)}`" for key in unknown[:MOST_NAMES]), *(["…"] if len(unknown) > MOST_NAMES else [])]
            ),
        )
    # Texts that no frame shows are encoded too: the length of the incumbent's conds depends on them.
    needed = dict.fromkeys(text(prompt, 0) for prompt in prompts)
    needed |= dict.fromkeys(shown for run in filled for blend in run for shown in (blend.start, blend.end))
    progress = comfy.utils.ProgressBar(len(needed))
    for shown in needed:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if shown not in encoded:
            encoded[shown] = encode(clip, shown)
            memory.add(encoded[shown])
        progress.update(1)
    entries = []
    for position, (_, options) in enumerate(encoded[first]):
        of_range = {shown: found[position][0] for shown, found in encoded.items()}
        cond, pooled = _interpolated(schedule.frames, filled, of_range, interpolate, compounding)
        entries.append([cond, {"pooled_output": pooled, **options}])
    return entries


@dataclass
class Memory:
    """What the conditioning of ``frames`` frames takes: encoded texts, and a cond as long as the longest for each frame."""

    frames: int
    texts: int = 0
    longest: int = 0

    def add(self, found: list[tuple[Encoded, dict]]) -> None:
        """Count one more text. Raises ValueError above MOST_BYTES."""
        size = sum(text.cond.numel() * text.cond.element_size() for text, _ in found)
        self.texts += size
        self.longest = max(self.longest, size)
        taken = self.texts + self.frames * self.longest
        if taken > MOST_BYTES:
            raise ValueError(
                f"The prompts of {self.frames} frames would take {taken / (1 << 30):.1f} GiB of memory encoded; at most "
                f"{MOST_BYTES >> 30} GiB are possible. Lower max_length or the largest index, use fewer latents, or shorten "
                "the longest prompt."
            )


def _interpolated(
    frames: int,
    filled: list[list[Blend]],
    encoded: Mapping[str, Encoded],
    interpolate: Interpolation,
    compounding: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """``(frames, tokens, channels)``, ``(frames, channels)``."""
    # Of all texts, so that those which values make longer later on fit in as well.
    tokens = max(text.cond.shape[1] for text in encoded.values())
    of_any = next(iter(encoded.values())).cond
    conds = of_any.new_empty(frames, tokens, of_any.shape[2])
    pooled: dict[int, Any] = {}
    for run in filled:
        text, start = None, of_any
        for blend in run:
            comfy.model_management.throw_exception_if_processing_interrupted()
            if blend.start != text or not compounding:
                text, start = blend.start, padded(encoded[blend.start].cond, tokens)
            cond = start
            if blend.weight:
                cond = interpolate(start, padded(encoded[blend.end].cond, tokens), blend.weight)
            conds[blend.frame] = start = cond
            pooled[blend.frame] = _pooled(encoded[blend.start], encoded[blend.end], blend, interpolate, compounding)
    if any(value is None for value in pooled.values()):
        return conds, None
    return conds, torch.cat([pooled[frame] for frame in range(frames)])


def _pooled(
    start: Encoded, end: Encoded, blend: Blend, interpolate: Interpolation, compounding: bool
) -> torch.Tensor | None:
    if compounding or blend.weight in (0, 1) or start.pooled is None or end.pooled is None:
        return end.pooled if blend.weight else start.pooled
    return interpolate(start.pooled, end.pooled, blend.weight)


def frame_of(conditioning: Conditioning, frame: int) -> Conditioning:
    """The conditioning of one frame. Entries that have no such frame stay as they are, with a warning in the log."""
    return [_frame_of_entry(cond, options, frame) for cond, options in conditioning]


def _frame_of_entry(cond: torch.Tensor, options: dict, frame: int) -> list:
    if not 0 <= frame < len(cond):
        logging.warning(
            "[AnimateDiff] There is no index %d in a conditioning of %d frames (0 to %d): it stays as it is.",
            frame,
            len(cond),
            len(cond) - 1,
        )
        return [cond, options]
    pooled = options.get("pooled_output")
    if pooled is not None and frame < len(pooled):
        options = {**options, "pooled_output": pooled[frame : frame + 1]}
    return [cond[frame : frame + 1], options]
