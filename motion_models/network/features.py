"""Pictures of features that adapters compute for the frames of a call."""

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """``values (frames of the call, channels, height, width)``; of one frame, they serve all. Resized to the layer that asks.

    Layers have another size than the features were made for where another node shrinks hidden states on their way
    (Kohya Deep Shrink), or the UNet computes a part of the picture.
    """

    values: torch.Tensor

    def at(self, height: int, width: int, like: torch.Tensor) -> torch.Tensor:
        """``(frames, channels, height, width)``, in the dtype and on the device of ``like``."""
        values = self.values.to(like)
        if values.shape[2:] != (height, width):
            values = functional.interpolate(values, (height, width), mode="bilinear", align_corners=False)
        return values
