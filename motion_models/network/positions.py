"""Positions of frames: their table, and what becomes of it behind the linear layers of an attention."""

import math

import torch
from torch import nn
from torch.nn import functional


def sinusoidal_table(length: int, channels: int) -> torch.Tensor:
    """Position table ``(1, length, channels)``: sines in even channels, cosines in odd (Vaswani et al., 3.5)."""
    position = torch.arange(length).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
    table = torch.zeros(1, length, channels)
    table[0, :, 0::2] = torch.sin(position * frequency)
    table[0, :, 1::2] = torch.cos(position * frequency)[:, : channels // 2]
    return table


def spread(table: torch.Tensor, length: int) -> torch.Tensor:
    """``(1, frames, channels)`` -> ``(1, length, channels)``: linear along the frames, which lie in the middle of their cells."""
    along_frames = table.float().transpose(1, 2)
    return (
        functional.interpolate(along_frames, length, mode="linear", align_corners=False).transpose(1, 2).to(table.dtype)
    )


class PositionalEncoding(nn.Module):
    pe: torch.Tensor

    def __init__(self, length: int, channels: int):
        super().__init__()
        # float32 whatever the weights are: small, and fp8 would ruin it
        table = torch.empty(1, length, channels)
        # what is built to be given weights needs no table of its own, and there may be 60 of them
        self.register_buffer("pe", table if table.is_meta else sinusoidal_table(length, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the table to ``x (positions, frames, channels)``; a clip or window always starts at its first row."""
        return x + self.rows(x.shape[1], x)

    def rows(self, frames: int, like: torch.Tensor) -> torch.Tensor:
        """The first ``frames`` rows, ``(1, frames, channels)``, in the dtype and on the device of ``like``."""
        # .to(): a partially loaded model keeps its buffers where it was offloaded to
        return self.pe[:, :frames].to(device=like.device, dtype=like.dtype)
