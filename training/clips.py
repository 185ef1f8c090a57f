"""The training data: latents of clips, checked before anything is computed, and how a step draws from them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..host.told import Told
from ..host.training import Conditioning
from .settings import TrainingSettings


class TrainingDataError(Told, ValueError):
    """Clips that cannot be trained on; the message says which and what to do."""


@dataclass(frozen=True)
class Batch:
    """``latents (clips, frames, channels, height, width)`` and, per clip, the number of its conditioning."""

    latents: torch.Tensor
    conditionings: list[int]

    def twice(self) -> "Batch":
        """All of it, and then all of it again."""
        return Batch(self.latents.repeat(2, 1, 1, 1, 1), self.conditionings * 2)


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
        for number, sample in enumerate(samples, 1):
            if sample.ndim != 4 or sample.shape[1] != 4:
                raise TrainingDataError(
                    f"{clip} {number} has latents of shape {tuple(sample.shape)}, but Stable Diffusion needs (frames, 4, height, "
                    "width). Encode its frames with the VAE of the checkpoint that is trained."
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

    def draw(self, clips: int, frames: int, caption_dropout: float, generator: torch.Generator) -> Batch:
        """``clips`` random stretches of ``frames`` frames; some of them with the empty text for their own.

        All of the size of the first, which may be any clip: a size is drawn as often as it has clips.
        """
        chosen, conditionings, choice = [], [], range(len(self.latents))
        for _ in range(clips):
            index = choice[_random(len(choice), generator)]
            choice = self.of_size[self.latents[index].shape[1:]]
            latents = self.latents[index]
            start = _random(len(latents) - frames + 1, generator)
            chosen.append(latents[start : start + frames])
            dropped = torch.rand((), generator=generator).item() < caption_dropout
            conditionings.append(self.empty if dropped else self.conditioning[index])
        return Batch(torch.stack(chosen), conditionings)


@dataclass(frozen=True)
class TrainingData:
    """What a training sees: its clips, those that it is measured on, if any, and all conditionings in their numbers' order."""

    clips: Clips
    held_out: Clips | None
    conditionings: list[Conditioning]

    @classmethod
    def of(
        cls, latents: list[dict], positive: list[Conditioning], negative: Conditioning, settings: TrainingSettings
    ) -> "TrainingData":
        """Raises TrainingDataError for clips that cannot be trained or measured on."""
        clips = Clips.of(latents, len(positive), settings.frames)
        conditionings, held_out = [*positive, negative], None
        if (validation := settings.options.validation) is not None:
            held_out = Clips.of(validation.latents, len(validation.positive), settings.frames, "Held-out clip")
            numbers = tuple(len(conditionings) + number for number in held_out.conditioning)
            held_out = replace(held_out, conditioning=numbers)
            conditionings += validation.positive
        return cls(clips, held_out, conditionings)

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


def _random(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=generator))
