"""Low-rank pairs to be trained (Hu et al., "LoRA", arXiv 2106.09685)."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Pair = tuple[torch.Tensor, torch.Tensor]


class TrainedPair(nn.Module):
    """The change ``alpha / rank * up @ down`` of one layer; it begins as no change at all."""

    def __init__(self, features_in: int, features_out: int, rank: int, alpha: float, generator: torch.Generator):
        super().__init__()
        # uniform as in the LoRA paper's code: variance 1 / (3 * in)
        bound = 1 / math.sqrt(features_in)
        self.down = nn.Parameter((torch.rand(rank, features_in, generator=generator) * 2 - 1) * bound)
        self.up = nn.Parameter(torch.zeros(features_out, rank))
        self.scale = alpha / rank

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
    layers: Mapping[str, Any], rank: int, alpha: float, seed: int, device: torch.device
) -> dict[str, TrainedPair]:
    """One pair for each of ``layers`` (name to linear layer)."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: TrainedPair(layer.weight.shape[1], layer.weight.shape[0], rank, alpha, generator).to(device)
        for name, layer in layers.items()
    }


def parameters(pairs: Mapping[str, TrainedPair]) -> list[nn.Parameter]:
    return [parameter for pair in pairs.values() for parameter in pair.parameters()]
