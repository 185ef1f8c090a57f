"""SIGMA_SCHEDULE: a table of noise levels of one's own, from beta schedules and mixtures of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import comfy.samplers
import torch
from comfy.model_base import ModelType

from ...host.model_sampling import discrete_schedule, lcm_schedule
from . import beta_schedules
from .interpolation import interpolated

RAW_SCHEDULES = ("linear", "sqrt_linear", "sqrt", "cosine", "squaredcos_cap_v2")
SAMPLINGS = ("eps", "v_prediction", "lcm")
PREDICTIONS = {"eps": ModelType.EPS, "v_prediction": ModelType.V_PREDICTION}


class SigmaScheduleError(ValueError):
    """Schedules that do not go together; the message says what to change."""


@dataclass(frozen=True, eq=False)
class SigmaSchedule:
    """``sampling`` is the host's model_sampling object, never altered once it is here."""

    sampling: torch.nn.Module

    @property
    def sigmas(self) -> torch.Tensor:
        """Ascending."""
        return self.sampling.sigmas

    def for_model(self) -> torch.nn.Module:
        return copy.deepcopy(self.sampling)

    def with_sigmas(self, sigmas: torch.Tensor) -> SigmaSchedule:
        sampling = self.for_model()
        sampling.set_sigmas(sigmas)
        return SigmaSchedule(sampling)


def from_beta_schedule(name: str) -> SigmaSchedule:
    return SigmaSchedule(beta_schedules.model_sampling(name, ModelType.EPS))


def raw(
    schedule: str, linear_start: float, linear_end: float, sampling: str, lcm_original_timesteps: int, zsnr: bool
) -> SigmaSchedule:
    if sampling == "lcm":
        return SigmaSchedule(lcm_schedule(schedule, lcm_original_timesteps, linear_end, linear_start, zsnr))
    return SigmaSchedule(discrete_schedule(PREDICTIONS[sampling], schedule, linear_end, linear_start, zsnr))


def _mixed(first: SigmaSchedule, second: SigmaSchedule, mix: Callable[[int], torch.Tensor]) -> SigmaSchedule:
    count, other = len(first.sigmas), len(second.sigmas)
    if count != other:
        raise SigmaScheduleError(
            f"The two sigma schedules have {count} and {other} noise levels and cannot be mixed. Use two of one kind: an LCM "
            "schedule goes with LCM schedules of the same number of timesteps only."
        )
    return first.with_sigmas(mix(count))


def weighted_mean(first: SigmaSchedule, second: SigmaSchedule, weight: float) -> SigmaSchedule:
    """``weight`` of the first and the rest of the second; sampled as the first."""
    return _mixed(first, second, lambda _: first.sigmas * weight + second.sigmas * (1 - weight))


def interpolated_mean(
    first: SigmaSchedule, second: SigmaSchedule, weight_start: float, weight_end: float, method: str
) -> SigmaSchedule:
    """The same with a weight that goes from ``weight_start`` at the highest noise level to ``weight_end`` at the lowest."""

    def mix(count: int) -> torch.Tensor:
        weights = interpolated(weight_start, weight_end, count, method).flip(0)
        return first.sigmas * weights + second.sigmas * (1 - weights)

    return _mixed(first, second, mix)


def split(start: SigmaSchedule, end: SigmaSchedule, percent: float) -> SigmaSchedule:
    """``start`` down to ``percent`` of the way through its noise levels, ``end`` from there; sampled as ``start``."""

    def mix(count: int) -> torch.Tensor:
        index = int((1 - percent) * count)
        return torch.cat((end.sigmas[:index], start.sigmas[index:]))

    return _mixed(start, end, mix)


def sampler_sigmas(schedule: SigmaSchedule, scheduler: str, steps: int, denoise: float) -> torch.Tensor:
    """SIGMAS for a custom sampler, ``(steps + 1,)``, descending; none at a ``denoise`` of 0."""
    if denoise <= 0.0:
        return torch.FloatTensor([])
    total = steps if denoise >= 1.0 else int(steps / denoise)
    return comfy.samplers.calculate_sigmas(schedule.sampling, scheduler, total).cpu()[-(steps + 1) :]
