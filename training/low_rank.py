"""Low-rank pairs to be trained (Hu et al., "LoRA", arXiv 2106.09685)."""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .settings import TrainingFailed

Pair = tuple[torch.Tensor, torch.Tensor]


class TrainedPair(nn.Module):
    """The change ``scale * up @ down`` of one layer; it begins as no change at all."""

    def __init__(self, features_in: int, features_out: int, rank: int, scale: float, generator: torch.Generator):
        super().__init__()
        # uniform as in the LoRA paper's code: variance 1 / (3 * in)
        bound = 1 / math.sqrt(features_in)
        self.down = nn.Parameter((torch.rand(rank, features_in, generator=generator) * 2 - 1) * bound)
        self.up = nn.Parameter(torch.zeros(features_out, rank))
        self.scale = scale

    def resume(self, pair: Pair) -> None:
        """Go on from ``(down, up)`` whose scale is part of ``up``."""
        down, up = (half.detach().float() for half in pair)
        self.down.data.copy_(down)
        self.up.data.copy_(up / self.scale)

    def result(self) -> Pair:
        """``(down, up)``, detached, on the CPU; the scale is part of ``up``."""
        return self.down.detach().cpu().clone(), (self.up.detach() * self.scale).cpu()


class LowRankLinear(nn.Module):
    """A frozen linear layer with a pair beside it."""

    def __init__(self, linear: nn.Module, pair: TrainedPair):
        super().__init__()
        self.linear, self.pair = linear, pair

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = functional.linear(functional.linear(x, self.pair.down.to(x)), self.pair.up.to(x))
        return self.linear(x) + change * self.pair.scale


def new_pairs(
    layers: Mapping[str, Any],
    rank: int,
    alpha: float,
    seed: int,
    device: torch.device,
    ranks: Mapping[str, int] = MappingProxyType({}),
    rslora: bool = False,
) -> dict[str, TrainedPair]:
    """One pair for each of ``layers`` (name to linear layer), of ``rank`` or of its own in ``ranks``; of rank 0: none.

    The strength is ``alpha / rank`` for all, whatever their own rank is; with ``rslora`` alpha / sqrt(own rank)
    (Kalajdzievski, arXiv 2312.03732).
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, layer in layers.items():
        if own := ranks.get(name, rank):
            scale = alpha / math.sqrt(own) if rslora else alpha / rank
            pairs[name] = TrainedPair(layer.weight.shape[1], layer.weight.shape[0], own, scale, generator).to(device)
    return pairs


def ranks_of(layers: Iterable[str], of_parts: Mapping[str, int]) -> dict[str, int]:
    """The ranks of those ``layers`` whose names have one of ``of_parts`` in them; the first that fits counts.

    A part is one or more words between dots: ``to_q``, ``attn2``, ``up_blocks.1``. Raises TrainingFailed for one that fits no layer.
    """
    layers = list(layers)
    fits = {part: [name for name in layers if f".{part}." in f".{name}."] for part in of_parts}
    for part, found in fits.items():
        if not found:
            words = ", ".join(sorted({word for name in layers for word in name.split(".") if not word.isdigit()}))
            raise TrainingFailed(
                f"ranks of Training Options says {part}, but no layer that is trained has that in its name. Write one of these in its "
                f"place: {words}."
            )
    ranks = {}
    for part, found in fits.items():
        for name in found:
            ranks.setdefault(name, of_parts[part])
    if len(ranks) == len(layers) and not any(ranks.values()):
        raise TrainingFailed(
            "ranks of Training Options leaves no layer to train: all have rank 0. Take one of them out."
        )
    return ranks


def parameters(pairs: Mapping[str, TrainedPair]) -> dict[str, nn.Parameter]:
    """By the name of their layer and ``down`` or ``up``."""
    return {f"{name}.{half}": value for name, pair in pairs.items() for half, value in pair.named_parameters()}
