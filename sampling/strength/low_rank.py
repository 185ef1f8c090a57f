"""Low-rank changes of varying strength in one sampler run: their schedules over its sigmas, their masks in windows."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ...motion_models.network.call import LowRank, LowRanks
from ...motion_models.network.strength import HOLD, FrameMask, StrengthSchedule, VaryingLowRank

# Straight lines in percent are curves in sigma: they are followed at these percents.
LINE_STEPS = np.linspace(0.0, 1.0, 401).tolist()


@dataclass(frozen=True)
class StrengthOverSigmas:
    """A StrengthSchedule over the sigmas of one model. ``sigmas`` descend; ``strengths`` belong to them."""

    sigmas: tuple[float, ...]
    strengths: tuple[float, ...]
    hold: bool

    @classmethod
    def of(cls, schedule: StrengthSchedule, model_sampling) -> "StrengthOverSigmas":
        hold = schedule.interpolation == HOLD
        percents = {percent for percent, _ in schedule.points}
        percents = sorted(percents if hold else percents.union(LINE_STEPS))
        sigmas = [float(model_sampling.percent_to_sigma(percent)) for percent in percents]
        if not hold:
            # the host gives 0 and 1 sigmas beyond its own range, at which no line should aim
            least, most = float(model_sampling.sigma_min), float(model_sampling.sigma_max)
            sigmas = [min(max(sigma, least), most) for sigma in sigmas]
        return cls(tuple(sigmas), tuple(schedule.at(percent) for percent in percents), hold)

    def at(self, sigma: float) -> float:
        if self.hold:
            # a point acts from its sigma on, as percent ranges do
            reached = sum(point >= sigma for point in self.sigmas)
            return self.strengths[max(reached - 1, 0)]
        ascending = [-math.log(max(point, 1e-10)) for point in self.sigmas]
        return float(np.interp(-math.log(max(sigma, 1e-10)), ascending, self.strengths))


@dataclass(frozen=True, eq=False)
class RunLowRank:
    """A VaryingLowRank in one run, where it computes."""

    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    strength: float
    schedule: StrengthOverSigmas | None
    mask: FrameMask | None

    @classmethod
    def of(cls, varying: VaryingLowRank, model_sampling, frames: int, device: torch.device) -> "RunLowRank":
        schedule = None if varying.schedule is None else StrengthOverSigmas.of(varying.schedule, model_sampling)
        mask = None if varying.mask is None else FrameMask(varying.mask, frames)
        pairs = {layer: (down.to(device), up.to(device)) for layer, (down, up) in varying.pairs.items()}
        return cls(pairs, varying.strength, schedule, mask)

    def at(self, sigma: float | None, window: list[int] | None) -> LowRanks:
        """The changes for a call at ``sigma`` (None where no schedule asks) with the frames ``window`` of the clip."""
        strength = self.strength if self.schedule is None or sigma is None else self.strength * self.schedule.at(sigma)
        if strength == 0.0:
            return {}
        if self.mask is not None:
            strength = self.mask.in_window(window).times(strength)
        return {layer: (LowRank(down, up, strength),) for layer, (down, up) in self.pairs.items()}


def merged(all_changes: Iterable[LowRanks]) -> LowRanks:
    """Changes of the same layers side by side: they add up."""
    result: dict[str, tuple[LowRank, ...]] = {}
    for changes in all_changes:
        for layer, of_layer in changes.items():
            result[layer] = result.get(layer, ()) + of_layer
    return result
