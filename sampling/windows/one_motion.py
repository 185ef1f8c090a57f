"""One motion through a long clip: what varies slowly comes from attention over all frames.

Lu et al., "FreeLong" (arXiv 2407.19918), section 4.2, SpectralBlend Temporal Attention: low frequencies of a global branch, high
ones of local windows. Blended here ahead of the output projection of each attention, and along time only.
"""

import math
from dataclasses import dataclass

import torch

from ...motion_models.network.views import OneMotion
from .schedules import bit_reversed


@dataclass(frozen=True)
class OneMotionOptions:
    """``cut_off``: up to which frequency the global branch decides, 1 being a change from frame to frame.

    ``strength`` 1 replaces those frequencies of the windows, 0 leaves them. ``end_percent`` of the sampling schedule is where it
    stops.
    """

    strength: float = 1.0
    cut_off: float = 0.25
    end_percent: float = 1.0
    start_percent: float = 0.0

    def in_call(self, frames: int, length: int, closed: bool, step: int) -> OneMotion:
        """For a call of ``frames`` frames in windows of ``length``. Of a closed loop no frame is the first: it begins elsewhere
        at each step.
        """
        first = int(frames * bit_reversed(step)) if closed else 0
        order = [(first + i) % frames for i in range(frames)]
        basis = (periodic_basis if closed else cosine_basis)(frames, self.cut_off)
        return OneMotion(basis, order, length, self.strength)


def cosine_basis(frames: int, cut_off: float) -> torch.Tensor:
    """``(frames, components)``, orthonormal: cosines (DCT-II) of up to ``cut_off`` of the highest frequency.

    They do not tie the end of the clip to its beginning, as the discrete Fourier transform would.
    """
    components = max(1, round(cut_off * frames))
    time, order = torch.arange(frames, dtype=torch.float64), torch.arange(components, dtype=torch.float64)
    basis = torch.cos(math.pi * (time[:, None] + 0.5) * order / frames)
    return (basis / basis.norm(dim=0)).float()


def periodic_basis(frames: int, cut_off: float) -> torch.Tensor:
    """The same of sines and cosines that repeat with the clip (the discrete Fourier transform), for closed loops."""
    periods = min(int(cut_off * frames / 2), (frames - 1) // 2)
    angles = 2 * math.pi * torch.arange(frames, dtype=torch.float64)[:, None] / frames * torch.arange(1, periods + 1)
    basis = torch.cat([torch.ones(frames, 1, dtype=torch.float64), torch.cos(angles), torch.sin(angles)], dim=1)
    return (basis / basis.norm(dim=0)).float()
