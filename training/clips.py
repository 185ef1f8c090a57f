"""The training data: latents of clips, checked before anything is computed, and how a step draws from them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch

from ..host.told import Told
from ..host.training import Conditioning
from ..sampling.paths.attention import SpatialAttention
from ..sampling.paths.path import MotionPath
from ..sampling.paths.words import Words
from .distributed import difference
from .settings import PathSettings, TrainingSettings


class TrainingDataError(Told, ValueError):
    """Clips that cannot be trained on; the message says which and what to do."""


# What sampling does with a conditioning beyond its text, from the options of an entry: what it is -> whether it is there.
# Training goes through the UNet alone, where none of it acts.
OF_SAMPLING: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "an area": lambda options: options.get("area") is not None,
    "a mask": lambda options: options.get("mask") is not None,
    "a strength other than 1": lambda options: options.get("strength", 1.0) != 1.0,
    "a range of steps": lambda options: options.get("start_percent", 0.0) > 0 or options.get("end_percent", 1.0) < 1,
    "a ControlNet": lambda options: options.get("control") is not None,
    "boxes of GLIGEN": lambda options: options.get("gligen") is not None,
    "hooks": lambda options: options.get("hooks") is not None,
}


@dataclass(frozen=True)
class Batch:
    """``latents (clips, frames, channels, height, width)`` and, per clip, the number of its conditioning."""

    latents: torch.Tensor
    conditionings: list[int]


@dataclass(frozen=True)
class Pick:
    """One clip of a batch: the frames of clip ``index`` from ``start`` on, shown with conditioning ``conditioning``."""

    index: int
    start: int
    conditioning: int


@dataclass(frozen=True)
class Epoch:
    """Where training is in its clips, by their numbers: ``coming`` are still to come in this epoch, in this order.

    ``ahead``: how often clips were taken of the epochs to come, for batches that this one had too few of.
    """

    coming: tuple[int, ...] = ()
    ahead: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))

    def state(self) -> dict:
        """Of Python's own types only."""
        return {"coming": list(self.coming), "ahead": dict(self.ahead)}

    @classmethod
    def of_state(cls, state: dict) -> "Epoch":
        return cls(tuple(state["coming"]), state["ahead"])


@dataclass(frozen=True)
class Clips:
    """Latents ``(frames, channels, height, width)`` per clip, and one conditioning for each clip.

    Clips may be of several sizes; those of a batch are of one. ``conditioning[i]`` numbers the conditioning of clip i;
    the number after the last is that of the empty text.
    """

    latents: tuple[torch.Tensor, ...]
    conditioning: tuple[int, ...]
    empty: int

    @classmethod
    def of(cls, latents: Sequence[dict], conditionings: int, frames: int, clip: str = "Clip") -> "Clips":
        """Check the host's LATENTs, one per clip, against ``frames`` and the number of conditionings given.

        One conditioning serves all clips; otherwise there is one for each. A single LATENT of several times
        ``frames`` frames is one long clip. Messages call them ``clip`` 1, 2 and so on. Raises TrainingDataError.
        """
        clips = f"{clip.lower()}s"
        # not copied: those of Video Folder to Clips stay on disk until a step takes them, and a batch is a copy anyway
        samples = tuple(latent["samples"].detach().float() for latent in latents)
        if not samples:
            raise TrainingDataError(
                f"There are no {clips} to train on: the latents input is empty. Check the dataset folder."
            )
        for number, (sample, latent) in enumerate(zip(samples, latents, strict=True), 1):
            if sample.ndim != 4 or sample.shape[1] != 4:
                raise TrainingDataError(
                    f"{clip} {number} has latents of shape {tuple(sample.shape)}, but Stable Diffusion needs (frames, 4, height, "
                    "width). Encode its frames with the VAE of the checkpoint that is trained."
                )
            if latent.get("noise_mask") is not None:
                raise TrainingDataError(
                    f"The latents of {clip.lower()} {number} have a noise mask, but training takes whole pictures. Connect them as "
                    "they come from VAE Encode."
                )
            if sample.shape[0] < frames:
                raise TrainingDataError(
                    f"{clip} {number} has {sample.shape[0]} frames, but training takes {frames} at a time. Use longer clips "
                    "or lower frames."
                )
            if not torch.isfinite(sample).all():
                raise TrainingDataError(
                    f"The latents of {clip.lower()} {number} hold infinite values or NaN. Encode the clip again."
                )
        if conditionings not in (1, len(samples)):
            raise TrainingDataError(
                f"There are {len(samples)} {clips} but {conditionings} positive conditionings. Connect one for all clips or one "
                "for each, in the same order."
            )
        numbers = tuple(range(conditionings)) if conditionings > 1 else (0,) * len(samples)
        return cls(samples, numbers, empty=conditionings)

    @cached_property
    def of_size(self) -> dict[torch.Size, list[int]]:
        """The clips of each size (channels, height, width), by their numbers."""
        found: dict[torch.Size, list[int]] = {}
        for index, latents in enumerate(self.latents):
            found.setdefault(latents.shape[1:], []).append(index)
        return found

    def draw(
        self, epoch: Epoch, clips: int, frames: int, caption_dropout: float, generator: torch.Generator
    ) -> tuple[list[Pick], Epoch]:
        """What a batch of ``clips`` clips is made of, and where training is behind it. No latents are read.

        Of each clip a random stretch of ``frames`` frames; some of them with the empty text for their own.
        """
        indices, epoch = self._next(epoch, clips, generator)
        picks = []
        for index in indices:
            start = int(torch.randint(len(self.latents[index]) - frames + 1, (), generator=generator))
            dropped = torch.rand((), generator=generator).item() < caption_dropout
            picks.append(Pick(index, start, self.empty if dropped else self.conditioning[index]))
        return picks, epoch

    def _next(self, epoch: Epoch, count: int, generator: torch.Generator) -> tuple[list[int], Epoch]:
        """The numbers of the next ``count`` clips, which make a batch, and where training is behind them.

        An epoch has every clip once, in an order of its own. A batch is of one size: that of the clip whose turn it is, with those
        that come next of the same size. If the epoch has too few of them left, the rest is taken of the next one, which
        leaves them out in turn. So a size comes up as often as it has clips.
        """
        coming, ahead = list(epoch.coming), Counter(epoch.ahead)
        while not coming:
            coming = [clip for clip in self._shuffled(range(len(self.latents)), generator) if not ahead[clip]]
            ahead = Counter({clip: times - 1 for clip, times in ahead.items() if times > 1})
        alike = self.of_size[self.latents[coming[0]].shape[1:]]
        wanted = set(alike)
        chosen = [clip for clip in coming if clip in wanted][:count]
        while len(chosen) < count:
            # those that are in this batch already come last
            more = sorted(self._shuffled(alike, generator), key=chosen.count)[: count - len(chosen)]
            ahead.update(more)
            chosen += more
        taken = set(chosen)
        return chosen, Epoch(tuple(clip for clip in coming if clip not in taken), MappingProxyType(dict(ahead)))

    @staticmethod
    def _shuffled(clips: Sequence[int], generator: torch.Generator) -> list[int]:
        return [clips[place] for place in torch.randperm(len(clips), generator=generator).tolist()]

    def size(self, picks: Sequence[Pick]) -> torch.Size:
        """Channels, height, width of ``picks``, which are of one size."""
        return self.latents[picks[0].index].shape[1:]

    def batch(self, picks: Sequence[Pick], frames: int) -> Batch:
        """The latents of ``picks``, which are of one size."""
        latents = torch.stack([self.latents[pick.index][pick.start : pick.start + frames] for pick in picks])
        return Batch(latents, [pick.conditioning for pick in picks])


@dataclass(frozen=True)
class TrainingData:
    """What a training sees: its clips, those that it is measured on, if any, and all conditionings in their numbers' order.

    ``paths``: one for each of ``clips``, or none at all; ``words``: those of the objects of each, where attention keeps to boxes.
    """

    clips: Clips
    held_out: Clips | None
    conditionings: list[Conditioning]
    paths: tuple[MotionPath, ...] = ()
    words: tuple[Words, ...] = ()

    @classmethod
    def of(
        cls, latents: list[dict], positive: list[Conditioning], negative: Conditioning, settings: TrainingSettings
    ) -> "TrainingData":
        """Raises TrainingDataError for clips that cannot be trained or measured on."""
        clips = Clips.of(latents, len(positive), settings.frames)
        _check_texts(positive, "positive")
        _check_texts([negative], "negative")
        _check_same(clips)
        conditionings, held_out = [*positive, negative], None
        if (validation := settings.options.validation) is not None:
            _check_texts(validation.positive, "positive of Training Validation")
            held_out = Clips.of(validation.latents, len(validation.positive), settings.frames, "Held-out clip")
            numbers = tuple(len(conditionings) + number for number in held_out.conditioning)
            held_out = replace(held_out, conditioning=numbers)
            conditionings += validation.positive
        paths, words = _paths(settings.options.paths, len(clips.latents))
        return cls(clips, held_out, conditionings, paths, words)

    @property
    def sizes(self) -> set[torch.Size]:
        """Channels, height, width of all clips."""
        return {size for clips in (self.clips, self.held_out) if clips is not None for size in clips.of_size}

    @cached_property
    def digest(self) -> str:
        """Tells clips from others, in a few letters."""
        found = hashlib.sha256()
        for latents in self.clips.latents:
            found.update(latents.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:12]

    def noted_paths(self, settings: PathSettings | None) -> str | None:
        """Tells paths, their noise and attention from others; None without."""
        if settings is None:
            return None
        noted = f"noise {settings.noise:g}, {hashlib.sha256(repr(self.paths).encode()).hexdigest()[:12]}"
        if not settings.attention:
            return noted
        places = [[sorted(of_object) for of_object in words.places] for words in self.words]
        return f"{noted}, attention {settings.attention:g}, {hashlib.sha256(repr(places).encode()).hexdigest()[:12]}"

    def boxes(self, pick: Pick, frames: int, attention: float) -> SpatialAttention | None:
        """Attention that keeps to the boxes of the path of ``pick``; None where it has none. Without a caption it has no words."""
        path, words = self.paths[pick.index], self.words[pick.index]
        if not path.objects:
            return None
        if pick.conditioning == self.clips.empty:
            words = Words((frozenset(),) * len(path.objects))
        return SpatialAttention(path.at(pick.start + frames)[:, pick.start :], words, attention)


def _paths(settings: PathSettings | None, clips: int) -> tuple[tuple[MotionPath, ...], tuple[Words, ...]]:
    """Path and words of each of ``clips`` clips; none without settings. Raises TrainingDataError."""
    if settings is None:
        return (), ()
    if len(settings.paths) not in (1, clips):
        raise TrainingDataError(
            f"There are {clips} clips but {len(settings.paths)} paths. Connect one for each to Training Paths, in the same order, or one "
            "for all."
        )
    for number, path in enumerate(settings.paths, 1):
        if not path.objects and path.camera is None:
            raise TrainingDataError(
                f"Path {number} of Training Paths has no box and no camera, so nothing moves along it. Connect Motion Path from Clip, "
                "or another node that makes paths."
            )
    paths = settings.paths * (clips if len(settings.paths) == 1 else 1)
    words = settings.words or tuple(Words.of_all(len(path.objects)) for path in paths)
    if len(words) not in (1, clips):
        raise TrainingDataError(
            f"There are {clips} clips but {len(words)} prompts. Connect the caption of each to Training Paths, in the same order, or one "
            "for all."
        )
    return paths, words * (clips if len(words) == 1 else 1)


def _check_same(clips: Clips) -> None:
    """Raise TrainingDataError unless all processes have as many clips of the same sizes, in the same order."""
    shapes = [tuple(latents.shape) for latents in clips.latents]
    if found := difference((shapes, clips.conditioning)):
        rank, (others, _), (firsts, _) = found
        raise TrainingDataError(
            f"The processes have different clips: process {rank} has {len(others)}, process 0 has {len(firsts)}, or they differ in length "
            "or size. Put the same files on all machines, and the same graph."
        )


def _check_texts(conditionings: Sequence[Conditioning], name: str) -> None:
    """Raise TrainingDataError unless each is of one text and no more: what else is in it would be left out unsaid."""
    for number, conditioning in enumerate(conditionings, 1):
        which = f"Conditioning {number} of {name}" if len(conditionings) > 1 else f"The conditioning {name}"
        if len(conditioning) != 1:
            holds = (
                f"has {len(conditioning)} parts, as Conditioning (Combine) makes them" if conditioning else "is empty"
            )
            raise TrainingDataError(
                f"{which} {holds}, but a clip is trained with one text. Connect that of one CLIP Text Encode; Conditioning (Concat) "
                "joins two texts to one."
            )
        [(_, options)] = conditioning
        if found := [what for what, there in OF_SAMPLING.items() if there(options)]:
            raise TrainingDataError(
                f"{which} has {' and '.join(found)}, which only sampling heeds: training would leave it out. Connect the text as "
                "it comes from CLIP Text Encode, of a CLIP without hooks."
            )
