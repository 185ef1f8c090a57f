"""The claims of AnimateDiff (arXiv 2307.04725) as numbers, on the toy world's weights, in a real ComfyUI.

Clips are sampled through API prompts as users queue them, saved as PNG, and measured (``toyworld.measure``). The seeds
here are used for nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from . import live_training, measure, scenes
from .amount_claims import amount_claims
from .borrowed_claims import borrowed_claims
from .camera_claims import camera_claims
from .claim import Claim
from .landscape_claims import landscape_claims
from .path_claims import path_claims
from .prompts import NO_ADAPTER_MODEL, PERSONALISED, Clip, sampling_prompt
from .travel_claims import travel_claims
from .videos import DIRECTIONS, path_towards

FIRST_SEED = 900_000
ZERO_MOTION = 2.0  # pixels a frame, as the fastest of the training videos
ZERO_FRAMES = 8  # as in its paper; of the picture's width the way is a quarter, there a sixth
LONGER_LOOP = 24
LEAP = 8  # pixels: four times the fastest step of the training videos
LONG, EVERY = 64, 8  # frames; between the edges of windows of 16 with an overlap of 8
ONE_SHOT = "right-1-clip"
TWO_STRENGTH = 0.8  # two at 1 lose more shapes


class Sampler:
    """Samples clips on a server: ``sampler(clips)`` gives the frames ``(frames, height, width, 3)`` of each.

    A clip that was asked for before is not sampled again, nor is one whose pictures are ``there``, by their API prompts.
    ``bench()`` is the toy world in this process, for what is trained on the way, which goes to ``models``.
    """

    def __init__(self, server, bench: Callable | None = None, there: dict[str, list[Path]] | None = None):
        self.server, self.bench, self.there = server, bench, there or {}
        self.models: Path = server.run / "models"
        self.videos: Path = server.run / "input"
        self.frames: dict[Clip, np.ndarray] = {}

    def __call__(self, clips: list[Clip]) -> list[np.ndarray]:
        waiting = {}
        for clip in clips:
            prompt = sampling_prompt(clip)
            files = self.there.get(json.dumps(prompt, sort_keys=True), [])
            if len(files) == clip.frames:
                self.frames[clip] = _read(files)
            elif clip not in self.frames:
                waiting[clip] = self.server.submit(prompt)
        for clip, prompt_id in waiting.items():
            self.frames[clip] = _read(self.server.outputs(self.server.wait(prompt_id)))
        return [self.frames[clip] for clip in clips]


def _read(files: Sequence[str | Path]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file in files])


def pictures(folder: Path) -> dict[str, list[Path]]:
    """The pictures in a folder by the API prompt that each was made by, which ComfyUI writes into it."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.png")):
        prompt = json.loads(Image.open(file).info["prompt"])
        found.setdefault(json.dumps(prompt, sort_keys=True), []).append(file)
    return found


def _clips(count: int, first: int, **changes) -> list[Clip]:
    """``count`` clips over all captions in turn, with seeds of their own."""
    captions = [scenes.CAPTIONS[i % len(scenes.CAPTIONS)] for i in range(count)]
    return [Clip(caption, FIRST_SEED + first + i, **changes) for i, caption in enumerate(captions)]


def training_motion() -> float:
    """Mean displacement of the training videos, as ``measure`` sees it."""
    rng = np.random.default_rng(FIRST_SEED)
    tracks = [measure.follow(scenes.video(scenes.random_path(rng))) for _ in range(50)]
    return float(np.mean([np.linalg.norm(track.displacement) for track in tracks]))


def _tracks(frames: list[np.ndarray]) -> list[measure.Track]:
    """Of the clips in which the shape can be followed."""
    return [track for track in map(measure.follow, frames) if track is not None]


def _content(clips: list[Clip], frames: list[np.ndarray]) -> float:
    return float(np.mean([measure.content_matches(f, c.caption) for c, f in zip(clips, frames, strict=True)]))


def base_claims(sample: Sampler, count: int) -> list[Claim]:
    """Coherence, content and motion of plain text to animation."""
    clips = _clips(count, 0)
    frames = sample(clips)
    tracks = _tracks(frames)
    stills = _clips(max(2, count // 4), 1000, motion=None)
    still_frames = sample(stills)
    jump, still_jump = (float(np.mean([t.jump for t in _tracks(f)])) for f in (frames, still_frames))
    content, still_content = _content(clips, frames), _content(stills, still_frames)
    motion = float(np.mean([np.linalg.norm(track.displacement) for track in tracks])) / training_motion()
    return [
        Claim(
            "without the module frames do not cohere", "centroid jump per frame, T2I / module", still_jump / jump, 2, 3
        ),
        Claim("content follows the text", "frames of the right shape and colour, %", 100 * content, 70, 85),
        Claim("", "points below the still model", 100 * (still_content - content), 10, 10, more=False),
        Claim("motion is real", "mean displacement / that of the training videos, %", 100 * motion, 30, 50),
    ]


def adapter_claims(sample: Sampler, count: int) -> list[Claim]:
    """What is left of the watermark when the adapter is taken out, and without one in training."""

    def watermark(**changes) -> float:
        return float(np.mean([measure.watermark(f) for f in sample(_clips(count, 0, **changes))]))

    on, off, never = watermark(adapter=1.0), watermark(), watermark(motion=NO_ADAPTER_MODEL)
    return [
        Claim("", f"watermark with the adapter (training videos: {scenes.WATERMARK_ALPHA:.2f})", on),
        Claim(
            "the adapter absorbs the domain gap",
            "watermark left, adapter 1 -> 0, %",
            100 * max(off, 0) / on,
            30,
            10,
            more=False,
        ),
        Claim("", "the same, no adapter in training, %", 100 * max(never, 0) / on),
    ]


def personalised_claims(sample: Sampler, count: int) -> list[Claim]:
    """Whether the restyled checkpoint keeps its style under the same module."""

    def style(**changes) -> np.ndarray:
        return np.mean([measure.style(f) for f in sample(_clips(count, 3000, **changes))], axis=0)

    animated = style(checkpoint=PERSONALISED)
    stills = style(checkpoint=PERSONALISED, motion=None, frames=4)
    other = style(motion=None, frames=4)
    similarity = 1 - np.linalg.norm(animated - stills) / np.linalg.norm(other - stills)
    return [
        Claim("any personalised checkpoint", "similarity to its stills (0: the base's)", float(similarity), 0.8, 0.9),
    ]


def _lora_clips(count: int, first: int, lora: str) -> list[Clip]:
    return _clips(count, first, loras=(f"toyworld-{lora}",))


def _angles(frames: list[np.ndarray], direction: float) -> np.ndarray:
    """Degrees from ``direction``, of each clip; one in which the shape cannot be followed counts as the opposite."""
    tracks = map(measure.follow, frames)
    return np.array([180.0 if track is None else track.angle_to(direction) for track in tracks])


def lora_claims(sample: Sampler, count: int) -> list[Claim]:
    """Whether a MotionLoRA sets the motion."""
    angles = np.concatenate(
        [
            _angles(sample(_lora_clips(count, 4000 + 100 * i, name)), direction)
            for i, (name, direction) in enumerate(DIRECTIONS.items())
        ]
    )
    zoom = _tracks(sample(_lora_clips(count, 6000, "zoom-in")))
    within = 100 * float((angles < 45).mean())
    return [
        Claim("MotionLoRA sets the motion", "clips within 45 degrees, %", within, 75, 90),
        Claim("", "mean error of direction, degrees", float(angles.mean()), 35, 20, more=False),
        Claim("zoom-in", "mean growth of the shape over a clip", float(np.mean([t.growth for t in zoom])), 1.2, 1.5),
    ]


def two_loras_claims(sample: Sampler, count: int) -> list[Claim]:
    """Whether two MotionLoRAs add up: the mean over clips that can be followed. Single clips scatter more, in rows of their own."""
    frames = sample(_clips(count, 5000, loras=("toyworld-right", "toyworld-up"), lora_strength=TWO_STRENGTH))
    diagonal = np.pi / 4
    angles = _angles(frames, diagonal)
    together = measure.angle_between(np.mean([track.displacement for track in _tracks(frames)], axis=0), diagonal)
    return [
        Claim(
            "two LoRAs add up", "right + up: mean displacement to the diagonal, degrees", together, 35, 20, more=False
        ),
        Claim("", "right + up: clips that go right and up, %", 100 * float((angles < 45).mean())),
        Claim("", "right + up: mean error of single clips, degrees", float(angles.mean())),
    ]


def few_clips_claims(sample: Sampler, count: int) -> list[Claim]:
    """What a MotionLoRA of five clips makes of the same captions and seeds."""
    found = []
    for text, lora in (("50 clips", "right"), ("5 clips", "right-5-clips")):
        clips = _lora_clips(count, 4000, lora)
        angles = _angles(sample(clips), DIRECTIONS["right"])
        found += [
            Claim(
                "5 clips are too few" if not found else "",
                f"right, {text}: mean error of direction, degrees",
                float(angles.mean()),
            ),
            Claim("", f"right, {text}: frames of the right shape and colour, %", 100 * _content(clips, sample(clips))),
        ]
    return found


def _has_room(frames: np.ndarray) -> bool:
    """Whether the shape of the first frame could go all the way of Text2Video-Zero and stay in the picture."""
    first = measure.look(frames[0])
    if first is None:
        return False
    return first.x + (first.area / np.pi) ** 0.5 + ZERO_MOTION * (len(frames) - 1) <= scenes.SIZE


def zero_claims(sample: Sampler, count: int) -> list[Claim]:
    """Text2Video-Zero, a baseline of the paper: pictures of the still model, tied together and moved to the right.

    By its motion field alone, and with the freedom that its authors leave to the frames.
    """

    def moved(delta_t: float) -> tuple[list[np.ndarray], list[Claim]]:
        clips = _clips(count, 7000, motion=None, zero=ZERO_MOTION, zero_delta_t=delta_t, frames=ZERO_FRAMES)
        frames = sample(clips)
        jumps = [track.jump for track in _tracks(frames)]
        return frames, [
            Claim("", f"delta_t {delta_t:g}: clips that can be followed, %", 100 * len(jumps) / count),
            Claim("", f"delta_t {delta_t:g}: jump per frame, pixels", float(np.mean(jumps)) if jumps else np.nan),
            Claim("", f"delta_t {delta_t:g}: clips that go right, %", 100 * float((_angles(frames, 0.0) < 45).mean())),
            Claim("", f"delta_t {delta_t:g}: frames of the right shape and colour, %", 100 * _content(clips, frames)),
        ]

    frames, alone = moved(0.0)
    roomy = [clip for clip in frames if _has_room(clip)]
    right = 100 * float((_angles(roomy, 0.0) < 45).mean()) if roomy else np.nan
    return [
        Claim(
            "baseline: Text2Video-Zero moves the scene",
            "delta_t 0: of clips with room, those that go right, %",
            right,
            75,
            90,
        ),
        Claim("", "delta_t 0: clips with room on the right, %", 100 * len(roomy) / count),
        *alone,
        *moved(0.06)[1],
    ]


def unictrl_claims(sample: Sampler, count: int) -> list[Claim]:
    """UniCtrl: whether frames are more alike with it than without, and whether content and motion stay."""
    plain, tied = (_clips(count, 8000, unictrl=unictrl) for unictrl in (False, True))

    def colour(clips: list[Clip]) -> float:
        return float(np.mean([measure.colour_deviation(frames) for frames in sample(clips)]))

    def size(clips: list[Clip]) -> float:
        """How far the shape's area is from a steady growth, of the area."""
        return float(np.mean([track.unsteadiness for track in _tracks(sample(clips))]))

    def motion(clips: list[Clip]) -> float:
        return float(np.mean([np.linalg.norm(track.displacement) for track in _tracks(sample(clips))]))

    lost = 100 * (_content(plain, sample(plain)) - _content(tied, sample(tied)))
    return [
        Claim(
            "UniCtrl: one look",
            "deviation of the shape's colour, with / without, %",
            100 * colour(tied) / colour(plain),
            more=False,
        ),
        Claim("", "deviation of the shape's colour without it, levels of 255", colour(plain)),
        Claim("", "deviation of the shape's size, with / without, %", 100 * size(tied) / size(plain), more=False),
        Claim("", "frames of the right shape and colour, points below those without", lost, more=False),
        Claim("", "displacement, with / without, %", 100 * motion(tied) / motion(plain)),
    ]


def loop_claims(sample: Sampler, count: int) -> list[Claim]:
    """Seamless Loop: whether the clip goes over into its beginning no faster than from frame to frame.

    No place of the loop is another than the others, so a leap may be anywhere in it. A shape that is not seen counts as a leap.
    Training videos all go straight on and never come back: clips that are longer than a window have no limit.
    """

    def steps(clips: list[Clip]) -> np.ndarray:
        """Of each clip those from frame to frame, that from the last frame to the first behind them."""
        return np.array([measure.steps_around(frames) for frames in sample(clips)])

    def ratio(clips: np.ndarray) -> float:
        return float(np.nanmean(clips[:, -1]) / np.nanmean(clips[:, :-1]))

    def steady(clips: np.ndarray) -> float:
        return 100 * float((clips <= LEAP).all(axis=1).mean())

    looped, plain = steps(_clips(count, 8500, loop=True)), steps(_clips(count // 2, 0))
    longer = steps(_clips(count // 2, 8500, loop=True, frames=LONGER_LOOP))
    single = looped[:, -1] / np.nanmean(looped[:, :-1], axis=1)
    largest = looped[:, -1] >= np.nanmax(looped, axis=1)
    return [
        Claim("clips loop", "jump from last to first frame / mean jump", ratio(looped), 1, 0.8, more=False),
        Claim("", "the same of clips that do not loop", ratio(plain)),
        Claim("", "clips in which it is at most the mean, %", 100 * float((single <= 1).mean())),
        Claim("", "clips in which it is the largest, %", 100 * float(largest.mean()), more=False),
        Claim("", f"clips without a step of more than {LEAP} pixels, %", steady(looped)),
        Claim("", "mean step, pixels", float(np.nanmean(looped))),
        Claim("", f"clips of {LONGER_LOOP} frames in windows of 16: the same ratio", ratio(longer), more=False),
        Claim("", f"clips of {LONGER_LOOP} frames without a step of more than {LEAP} pixels, %", steady(longer)),
    ]


def long_claims(sample: Sampler, count: int) -> list[Claim]:
    """Long clips: whether one motion goes on through shared windows, against static ones."""

    def going_on(frames: list[np.ndarray]) -> float:
        return 100 * float((np.array([measure.turn(f) for f in frames]) < 45).mean())

    def kind(windows: str) -> tuple[float, float, float]:
        clips = _clips(count, 9000, windows=windows, frames=LONG)
        frames = sample(clips)
        return (
            going_on(frames),
            float(np.mean([measure.seam_ratio(f, EVERY) for f in frames])),
            100 * _content(clips, frames),
        )

    short = _clips(count, 0)
    in_short = sample(short)
    content = 100 * _content(short, in_short)

    (one, seam, kept), (static, static_seam, static_kept) = map(kind, ("one motion", "static"))
    return [
        Claim("one motion through 64 frames", "clips whose second half goes on as the first, %", one, 80, 90),
        Claim("", "the same in static windows, %", static),
        Claim("", "the same in clips of 16 frames, without windows, %", going_on(in_short)),
        Claim("", "seam ratio", seam, 1.1, more=False),
        Claim("", "seam ratio in static windows", static_seam, more=False),
        Claim(
            "", "frames of the right shape and colour, points below clips of 16 frames", content - kept, 5, more=False
        ),
        Claim("", "the same in static windows", content - static_kept, more=False),
    ]


def reuse_claims(sample: Sampler, count: int) -> list[Claim]:
    """Reuse Motion: what is left of content, coherence and motion where the motion model is computed in some steps only."""

    def of(every: int) -> tuple[float, float, float]:
        clips = _clips(count, 0, reuse=every)
        frames = sample(clips)
        tracks = _tracks(frames)
        motion = np.mean([np.linalg.norm(track.displacement) for track in tracks])
        return 100 * _content(clips, frames), float(np.mean([track.jump for track in tracks])), float(motion)

    def rows(every: int, limit: float | None) -> list[Claim]:
        content, jump, motion = of(every)
        name = f"one step in {every}"
        return [
            Claim(
                "Reuse Motion keeps the clip" if limit else "",
                f"{name}: points below the frames of the right shape and colour without it",
                plain_content - content,
                limit,
                more=False,
            ),
            Claim("", f"{name}: jump per frame, change in %", 100 * (jump / plain_jump - 1), limit, more=False),
            Claim("", f"{name}: displacement, change in %", 100 * abs(motion / plain_motion - 1), limit, more=False),
        ]

    plain_content, plain_jump, plain_motion = of(0)
    return [*rows(2, 3.0), *rows(3, None)]


def one_shot_claims(sample: Sampler, count: int) -> list[Claim]:
    """One-shot tuning, the other baseline: a MotionLoRA of a single clip, trained here as that of five clips was."""
    file = sample.models / "animatediff_motion_lora" / f"toyworld-{ONE_SHOT}.safetensors"
    if not file.exists():
        live_training.train_motion_lora(sample.bench(), live_training.MotionLora(path_towards("right"), clips=1), file)
    clips = _lora_clips(count, 4000, ONE_SHOT)
    frames = sample(clips)
    angles = _angles(frames, DIRECTIONS["right"])
    return [
        Claim("baseline: one-shot tuning", "right, 1 clip: mean error of direction, degrees", float(angles.mean())),
        Claim("", "right, 1 clip: frames of the right shape and colour, %", 100 * _content(clips, frames)),
    ]


def table(claims: list[Claim]) -> str:
    """Markdown."""
    lines = ["| claim | measure | must | target | reached | |", "|---|---|---|---|---|---|"]
    for c in claims:
        limits = ["" if limit is None else f"{'>=' if c.more else '<='} {limit:g}" for limit in (c.must, c.target)]
        lines.append(f"| {c.claim} | {c.measure} | {limits[0]} | {limits[1]} | {c.value:.2f} | {c.verdict} |")
    return "\n".join(lines)


# How many clips each takes, and how many in the quick form (none: left out, as it is slow or not what the paper claims),
# which is to end within five minutes on 2 cores.
PARTS = (
    (base_claims, 24, 4),
    (adapter_claims, 6, 1),
    (personalised_claims, 6, 2),
    (lora_claims, 8, 2),
    (two_loras_claims, 16, 6),
    (few_clips_claims, 8, 0),
    (zero_claims, 8, 0),
    (unictrl_claims, 4, 0),
    (loop_claims, 12, 0),
    (long_claims, 24, 0),
    (reuse_claims, 12, 0),
    (one_shot_claims, 8, 0),
    (path_claims, 48, 0),
    (camera_claims, 36, 0),
    (borrowed_claims, 24, 0),
    (amount_claims, 12, 0),
    (travel_claims, 24, 0),
    (landscape_claims, 16, 0),
)


def name_of(part: Callable) -> str:
    """As the command line calls it: ``two-loras`` for ``two_loras_claims``."""
    return part.__name__.removesuffix("_claims").replace("_", "-")


def run(sample: Sampler, quick: bool, only: str | None = None, count: int | None = None) -> list[Claim]:
    """All claims, or the quick form of those that have limits, or those of one part; each is printed as it comes.

    ``count``: how many clips each part takes, in place of its own number.
    """
    names = [name_of(part) for part, *_ in PARTS]
    if only not in (None, *names):
        raise SystemExit(f"There is no part '{only}' of the table. Choose one of {', '.join(names)}.")
    claims = []
    for part, whole, quick_count in PARTS:
        if only in (None, name_of(part)) and (clips := count or (quick_count if quick else whole)):
            found = part(sample, clips)
            for claim in found:
                print(f"{claim.measure}: {claim.value:.2f} {claim.verdict}", flush=True)
            claims += found
    return claims
