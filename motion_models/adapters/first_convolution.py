"""Pictures beside the latents: further input channels of the UNet's first convolution. PIA has them, FancyVideo too.

PIA (Zhang et al., "PIA: Your Personalized Image Animator", arXiv 2312.13964), section 3.2, "condition module": the UNet
sees, beside the noisy latents, a picture's latents and how alike to it each frame shall be. A convolution is linear, so
what the further channels add to its result is computed apart, and the checkpoint's own layer stays as it is.
"""

import torch
from torch import nn

from ...host.patcher import operations


class ImageInput(nn.Module):
    """``latent_channels``: of the picture; ``channels``: of the UNet's first level."""

    def __init__(self, latent_channels: int, channels: int, dtype: torch.dtype | None = None):
        super().__init__()
        self.latent_channels, self.channels = latent_channels, channels
        self.conv = operations().Conv2d(latent_channels + 1, channels, 3, padding=1, bias=False, dtype=dtype)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """``(pictures, latent channels + 1, height, width)`` -> what is added behind the UNet's first convolution."""
        return self.conv(pictures)
