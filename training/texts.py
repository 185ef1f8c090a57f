"""What a UNet makes of a clip's text, made once and not again for every frame of the clip."""

from collections.abc import Callable
from functools import partial

import torch
from comfy.ldm.modules.attention import CrossAttention
from torch import nn

Projection = Callable[[torch.Tensor], torch.Tensor]


class TextOfClips:
    """Keys and values of the text, in a UNet of our own: computed for one frame of each clip, they serve all of them.

    The text is no small part of a step: 77 tokens are more than a frame of 64 x 64 pixels has positions (8 x 8).
    Only the very tensor that was announced is meant; what patches make of it is projected as it is.
    """

    def __init__(self, unet: nn.Module):
        self.context: torch.Tensor | None = None
        self.frames = 1
        for module in unet.modules():
            if isinstance(module, CrossAttention):
                for layer in (module.to_k, module.to_v):
                    layer.forward = partial(self._project, layer.forward)

    def announce(self, context: torch.Tensor, frames: int) -> None:
        """The UNet is called next with ``context (clips * frames, tokens, width)``, which is alike for the frames of a clip."""
        self.context, self.frames = context, frames

    def _project(self, layer: Projection, x: torch.Tensor) -> torch.Tensor:
        if x is not self.context or self.frames == 1:
            return layer(x)
        return layer(x[:: self.frames]).repeat_interleave(self.frames, 0)
