"""The toy world's autoencoder: TAESD's layout (madebyollin/taesd), with half of the channels alive.

Trained to draw the scenes again from latents of unit scale, 4 channels at an eighth of the size. ComfyUI takes the
expanded tensors (``toyworld.checkpoint``) as the VAE of an SD1.5 checkpoint.
"""

import torch
from torch import nn

LIVE = 32


def _conv(n_in: int, n_out: int, **kwargs) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, **kwargs)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(_conv(LIVE, LIVE), nn.ReLU(), _conv(LIVE, LIVE), nn.ReLU(), _conv(LIVE, LIVE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x) + x)


class Clamp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / 3) * 3


class DeadBlock(nn.Module):
    """A block whose weights are zero: not stored, not computed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


def _blocks(live: int) -> list[nn.Module]:
    return [Block() if i < live else DeadBlock() for i in range(3)]


def encoder() -> nn.Sequential:
    """``(batch, 3, height, width)`` in 0..1 -> latents ``(batch, 4, height / 8, width / 8)``."""
    layers = [_conv(3, LIVE), DeadBlock()]
    for live in (1, 2, 3):
        layers += [_conv(LIVE, LIVE, stride=2, bias=False), *_blocks(live)]
    return nn.Sequential(*layers, _conv(LIVE, 4))


def decoder() -> nn.Sequential:
    """Latents -> pictures in 0..1, the inverse of ``encoder``."""
    layers = [Clamp(), _conv(4, LIVE), nn.ReLU()]
    for live in (3, 2, 1):
        layers += [*_blocks(live), nn.Upsample(scale_factor=2), _conv(LIVE, LIVE, bias=False)]
    return nn.Sequential(*layers, DeadBlock(), _conv(LIVE, 3))
