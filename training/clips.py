"""The training data: latents of clips, checked before anything is computed, and how a step draws from them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..host.training import Conditioning
from .settings import TrainingSettings


class TrainingDataError(ValueError):
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
    """Latents ``(frames, channels, height, width)`` per clip, all of one size, and one conditioning for each clip.

    ``conditioning[i]`` numbers the conditioning of clip i; the number after the last is that of the empty text.
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
        samples = tuple(latent["samples"].detach().clone().float() for latent in latents)
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
            if sample.shape[2:] != samples[0].shape[2:]:
                raise TrainingDataError(
                    f"{clip} {number} has latents of {_size(sample)}, {clip.lower()} 1 of {_size(samples[0])}. Bring all clips to one size "
                    "before VAE Encode (for example with Upscale Image, crop center)."
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

    @property
    def size(self) -> torch.Size:
        """Channels, height, width."""
        return self.latents[0].shape[1:]

    def draw(self, clips: int, frames: int, caption_dropout: float, generator: torch.Generator) -> Batch:
        """``clips`` random stretches of ``frames`` frames; some of them with the empty text for their own."""
        chosen, conditionings = [], []
        for _ in range(clips):
            index = _random(len(self.latents), generator)
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
            if held_out.size != clips.size:
                raise TrainingDataError(
                    f"The held-out clips have latents of {_size(held_out.latents[0])}, the training clips of "
                    f"{_size(clips.latents[0])}. Bring all to one size before VAE Encode (for example with Upscale Image, crop center)."
                )
            numbers = tuple(len(conditionings) + number for number in held_out.conditioning)
            held_out = replace(held_out, conditioning=numbers)
            conditionings += validation.positive
        return cls(clips, held_out, conditionings)

    @cached_property
    def digest(self) -> str:
        """Tells clips from others, in a few letters."""
        found = hashlib.sha256()
        for latents in self.clips.latents:
            found.update(latents.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:12]


def _random(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=generator))


def _size(latents: torch.Tensor) -> str:
    return f"{latents.shape[3]} x {latents.shape[2]}"
