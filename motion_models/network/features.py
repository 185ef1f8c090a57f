"""Pictures of features that adapters compute for the frames of a call."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """``values (frames of the call, channels, height, width)``; of one frame, they serve all. Resized to the layer that asks.

    Layers have another size than the features were made for where another node shrinks hidden states on their way
    (Kohya Deep Shrink), or the UNet computes a part of the picture.

    ``without`` are the conds, by the ids that the host gives them, which see zeros in their place; ``clips`` says of each
    clip of a UNet call whether it has the features (None: all have).
    """

    values: torch.Tensor
    without: frozenset[Hashable] = frozenset()
    clips: tuple[bool, ...] | None = None

    def in_batch(self, conds: Sequence[Hashable], clips: int) -> FrameFeatures:
        """For a UNet call of ``clips`` clips, which belong to ``conds`` in equal parts."""
        if not self.without or not conds:
            return self
        return replace(self, clips=tuple(conds[i * len(conds) // clips] not in self.without for i in range(clips)))

    def beside(self, other: FrameFeatures) -> FrameFeatures:
        """The channels of both, of the same frames, at the larger of their sizes."""
        size = max(self.values.shape[2:], other.values.shape[2:], key=lambda one: one.numel())
        values = torch.cat([features.at(*size, like=self.values) for features in (self, other)], dim=1)
        return replace(self, values=values)

    def at(self, height: int, width: int, like: torch.Tensor) -> torch.Tensor:
        """``(frames, channels, height, width)``, in the dtype and on the device of ``like``."""
        values = self.values.to(like)
        if values.shape[2:] != (height, width):
            values = functional.interpolate(values, (height, width), mode="bilinear", align_corners=False)
        return values
