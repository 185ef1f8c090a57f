"""Strengths that vary, in one sampler run: their schedules over its sigmas, their masks in windows."""

import math
from dataclasses import dataclass

import numpy as np

from ...motion_models.network.strength import HOLD, FrameMask, Strength, StrengthSchedule, VaryingStrength
from ..feature import Step

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
class StrengthInRun:
    """A VaryingStrength in one run: the product of what it holds."""

    number: float
    schedule: StrengthOverSigmas | None
    mask: FrameMask | None

    @classmethod
    def of(cls, strength: VaryingStrength, model_sampling, frames: int) -> "StrengthInRun":
        """For a clip of ``frames`` frames, sampled by a model with this ``model_sampling``."""
        schedule = None if strength.schedule is None else StrengthOverSigmas.of(strength.schedule, model_sampling)
        return cls(strength.number, schedule, None if strength.mask is None else FrameMask(strength.mask, frames))

    def at(self, step: Step, window: list[int] | None) -> Strength:
        """For a denoiser call at ``step`` with the frames ``window`` of the clip (None: all). Nothing at all is 0."""
        number = self.number if self.schedule is None else self.number * self.schedule.at(step.sigma)
        if number == 0.0 or self.mask is None:
            return number
        return self.mask.in_window(window).times(number)
