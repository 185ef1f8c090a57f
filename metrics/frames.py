"""Measures on frames as they are: no model, no motion."""

from collections.abc import Sequence
from itertools import pairwise

import torch


def frame_differences(frames: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of adjacent frames: ``(frames, h, w, 3)`` in 0..1 -> ``(frames - 1,)`` levels of 255."""
    return 255 * torch.stack([(second - first).abs().mean() for first, second in pairwise(frames)])


def temporal_flickering(differences: torch.Tensor) -> float:
    """VBench's temporal flickering in per cent, 100 = still: ``100 (255 - mean difference) / 255``.

    arXiv 2311.17982, section 3.1.1 and the authors' code, which is meant for still scenes: motion lowers it too.
    """
    return 100 * (255 - float(differences.mean())) / 255


def seams(frames: int, windows: Sequence[Sequence[int]]) -> list[int]:
    """The frames after which the set of ``windows`` (frame indices of each) that cover a frame changes."""
    covering = [{i for i, window in enumerate(windows) if frame in window} for frame in range(frames)]
    return [frame for frame, (here, after) in enumerate(pairwise(covering)) if here != after]


def seam_ratio(differences: torch.Tensor, seams: list[int]) -> float:
    """How much more frames differ where the windows change than elsewhere; 1 = no seam to be seen.

    Mean of ``differences (frames - 1,)`` at the seams over their mean elsewhere. Raises ValueError where there is
    nothing to divide or to divide by. Our own definition: no published measure looks at windows.
    """
    at_seam = torch.zeros(len(differences), dtype=torch.bool)
    at_seam[seams] = True
    if not at_seam.any():
        raise ValueError("all frames fit into one window, so there is no seam")
    if at_seam.all():
        raise ValueError("the windows change after every frame, so there is nothing to compare seams with")
    elsewhere = float(differences[~at_seam].mean())
    if elsewhere == 0:
        raise ValueError(
            f"nothing moves between seams (frames differ by {float(differences[at_seam].mean()):.2f} levels at them)"
        )
    return float(differences[at_seam].mean()) / elsewhere
