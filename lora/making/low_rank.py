"""The change of fewest dimensions that comes nearest to a change of a weight: its singular value decomposition, cut off.

Eckart and Young, "The approximation of one matrix by another of lower rank" (Psychometrika 1, 1936). Singular values go
into ``up``, and what is ``clamped``, are as in the extraction scripts of kohya's sd-scripts.
"""

from dataclasses import dataclass

import numpy as np
import torch

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Held:
    """How much of a change a pair holds, as sums of squares: of all of it, and of what is missing."""

    whole: float
    missing: float

    def __add__(self, other: "Held") -> "Held":
        return Held(self.whole + other.whole, self.missing + other.missing)


def of_change(change: torch.Tensor, rank: int, clamp_quantile: float = 1.0) -> tuple[Pair, Held]:
    """``(down (rank, in), up (out, rank))`` nearest to ``change (out, in)``; a rank above the full one is the full one."""
    u, s, vh = torch.linalg.svd(change, full_matrices=False)
    pair = clamped((vh[:rank].clone(), u[:, :rank] * s[:rank]), clamp_quantile)
    return pair, Held(_square(change), _square(change - pair[1] @ pair[0]))


def of_product(down: torch.Tensor, up: torch.Tensor, rank: int) -> tuple[Pair, Held]:
    """The same for the change ``up @ down``, which is never made: it is far larger than its halves."""
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    u, s, vh = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    pair = (vh[:rank] @ q_down.T, q_up @ (u[:, :rank] * s[:rank]))
    return pair, Held(_square(s), _square(s[rank:]))


def clamped(pair: Pair, quantile: float) -> Pair:
    """Both halves within the ``quantile`` of the numbers of both; 1 changes nothing."""
    if quantile >= 1.0:
        return pair
    # not torch.quantile: it takes no more than 16 million numbers
    most = float(np.quantile(torch.cat([half.flatten() for half in pair]).numpy(), quantile))
    down, up = (half.clamp(-most, most) for half in pair)
    return down, up


def _square(x: torch.Tensor) -> float:
    return float(x.double().square().sum())
