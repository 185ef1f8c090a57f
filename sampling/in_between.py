"""Frames between the frames of a clip, for the motion model to fill in: interleaved latents and a mask of what is new.

The frames that were there are known, and the sampler keeps them while it denoises the others beside them (Lugmayr et al.,
"RePaint", arXiv 2201.09865, section 3.1; core samplers do that for a noise mask).
"""

import torch

from ..host.told import Told
from .checks import check_latents

MOST_FRAMES = 10_000


class TooManyFrames(Told, ValueError):
    """More frames than a clip can have; the message says what to lower."""


def interleaved(latents: torch.Tensor, between: int, loop: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """``latents (frames, channels, height, width)`` with ``between`` new frames behind each but the last, or behind the last
    too (``loop``, where they lead to the first); and the mask ``(all frames, 1, height, width)``: 1 new, 0 kept.

    New frames lie on the straight line between their neighbours: what is left of that depends on how much is denoised.
    Raises what check_latents raises, and TooManyFrames.
    """
    check_latents(latents)
    frames, step = len(latents), between + 1
    total = frames * step - (0 if loop else between)
    if total > MOST_FRAMES:
        raise TooManyFrames(
            f"{frames} frames with {between} between each two are {total}; at most {MOST_FRAMES} are possible. Lower between."
        )
    following = torch.cat([latents[1:], latents[:1]])
    parts = [torch.lerp(latents, following, i / step) for i in range(step)]
    filled = torch.stack(parts, dim=1).flatten(0, 1)[:total]
    mask = torch.ones(total, 1, *latents.shape[2:])
    mask[::step] = 0.0
    return filled, mask
