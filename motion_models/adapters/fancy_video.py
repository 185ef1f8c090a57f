"""FancyVideo's image input: the first frames as latents, frame rate and amount of motion beside the time step.

FancyVideo (Feng et al., arXiv 2408.08189), section 3. Attribute names but ``conv`` are those of the published file.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from ...host.patcher import operations
from .first_convolution import ImageInput

LONGEST_PERIOD = 10000


class NumberEmbedding(nn.Module):
    """A number as a vector: a linear layer behind the sinusoids that time steps have."""

    def __init__(self, channels: int, to: int, dtype: torch.dtype | None = None):
        super().__init__()
        self.channels = channels
        self.linear = operations().Linear(channels, to, dtype=dtype)

    def forward(self, number: float, like: torch.Tensor) -> torch.Tensor:
        """``(1, to)``, in the dtype and on the device of ``like``. Cosines come first, then sines."""
        half = self.channels // 2
        falling = torch.arange(half, device=like.device, dtype=torch.float32) * (-math.log(LONGEST_PERIOD) / half)
        angles = number * falling.exp()
        return functional.silu(self.linear(torch.cat([angles.cos(), angles.sin()])[None].to(like)))


class FancyVideoInput(ImageInput):
    """``channels``: of the UNet's first level, whose embedding of the time step is four times as wide."""

    def __init__(self, latent_channels: int, channels: int, dtype: torch.dtype | None = None):
        super().__init__(latent_channels, channels, dtype)
        self.fps_embedding = NumberEmbedding(channels, 4 * channels, dtype)
        self.motion_embedding = NumberEmbedding(channels, 4 * channels, dtype)

    def embedding(self, fps: float, motion_score: float, like: torch.Tensor) -> torch.Tensor:
        """``(1, 4 * channels)``: what is added to the embedding of the time step."""
        return self.fps_embedding(fps, like) + self.motion_embedding(motion_score, like)
