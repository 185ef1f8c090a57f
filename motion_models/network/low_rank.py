"""Low-rank changes of linear layers that last for one call: LoRAs in training, and those whose strength varies.

A LoRA of constant strength is better added to the weights once (the host's weight patches). What varies from step to
step, from frame to frame or over the picture cannot be, and is computed beside the layer instead.
"""

from collections.abc import Mapping

import torch
from torch.nn import functional

from .call import LowRank

# Layer name (see call.LowRanks) to (down, up): the changes of a whole motion model.
Pairs = Mapping[str, tuple[torch.Tensor, torch.Tensor]]


def add_low_rank(y: torch.Tensor, x: torch.Tensor, changes: tuple[LowRank, ...]) -> torch.Tensor:
    """``y``, a linear layer's result for ``x (positions, frames, channels)``, with its low-rank changes added.

    ``y`` is altered in place: nothing else may refer to it. Differentiable in ``x``, ``y`` and the changes.
    Strengths that are masks must have been laid out by ``parts.in_parts``.
    """
    for change in changes:
        hidden = functional.linear(x, change.down.to(x))
        # the strength acts on the few channels in the middle, where it costs least
        if isinstance(change.strength, torch.Tensor):
            hidden = hidden * change.strength.to(x)
        elif change.strength != 1.0:
            hidden = hidden * change.strength  # pyright: ignore[reportOperatorIssue] - a number here
        y = y.add_(functional.linear(hidden, change.up.to(x)))
    return y
