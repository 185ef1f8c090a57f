"""Masks with one picture per frame, at whatever size a layer of the UNet needs them."""

import torch
from torch.nn import functional

from .strength import for_frames


class FrameMask:
    """A mask over the frames of one denoiser call.

    ``pictures (k, height, width)`` are those of the whole clip; the last one serves all frames that follow. A run asks
    for few sizes many times, so each is made once, and windows of one clip share them.
    """

    def __init__(self, pictures: torch.Tensor, frames: int, window: list[int] | None = None, made: dict | None = None):
        """``frames``: of the whole clip; ``window``: those of the call (None: all)."""
        self.pictures = pictures
        self.frames = frames
        self.window = window
        self.made = {} if made is None else made

    def of(self, window: list[int] | None) -> "FrameMask":
        return FrameMask(self.pictures, self.frames, window, self.made)

    def at(self, height: int, width: int, like: torch.Tensor) -> torch.Tensor:
        """``(frames of the call, 1, height, width)``, resized bilinearly, in the dtype and on the device of ``like``."""
        key = (height, width, like.dtype, like.device)
        if key not in self.made:
            mask = self.pictures.float().unsqueeze(1)
            mask = functional.interpolate(mask, (height, width), mode="bilinear", align_corners=False)
            self.made[key] = for_frames(mask, self.frames).to(like)
        mask = self.made[key]
        return mask if self.window is None else mask[self.window]
