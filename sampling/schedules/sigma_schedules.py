"""SIGMA_SCHEDULE: a table of noise levels of one's own, from beta schedules and mixtures of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_base
import comfy.samplers
import torch

from ...host.model_sampling import discrete_schedule, lcm_schedule
from ...host.told import Told
from . import beta_schedules
from .interpolation import interpolated

RAW_SCHEDULES = ("linear", "sqrt_linear", "sqrt", "cosine", "squaredcos_cap_v2")
ENDS_COUNT = RAW_SCHEDULES[:3]  # the others are curves of their own
SAMPLINGS = ("eps", "v_prediction", "lcm")
PREDICTIONS = {"eps": "EPS", "v_prediction": "V_PREDICTION"}  # the host's names of them


MOST_TIMESTEPS = 1000  # of a table; a consistency model is distilled on some of them
LARGEST_SIGMA = torch.finfo(torch.float32).max ** 0.5  # samplers square it
# 10,000 steps, which is the most of a sampler node, at a denoise of 0.1. The host makes the list in one go, without Stop.
MOST_STEPS = 100_000


class SigmaScheduleError(Told, ValueError):
    """Schedules that do not go together, or that nothing can be sampled with; the message says what to change."""


@dataclass(frozen=True, eq=False)
class SigmaSchedule:
    """``sampling`` is the host's model_sampling object, never altered once it is here."""

    sampling: Any

    def __post_init__(self):
        least, most = float(self.sigmas.min()), float(self.sigmas.max())
        if not 0 < least <= most <= LARGEST_SIGMA:  # NaN is none of it
            raise SigmaScheduleError(
                f"The noise levels of this sigma schedule go from {least:g} to {most:g}; they have to lie above 0, and below "
                f"{LARGEST_SIGMA:.2g}. Choose a linear_start and a linear_end near 0.00085 and 0.012, those of Stable Diffusion, "
                "and keep weights between 0 and 1."
            )

    @property
    def sigmas(self) -> torch.Tensor:
        """Ascending."""
        return self.sampling.sigmas

    def for_model(self) -> Any:
        return copy.deepcopy(self.sampling)

    def with_sigmas(self, sigmas: torch.Tensor) -> SigmaSchedule:
        sampling = self.for_model()
        sampling.set_sigmas(sigmas)
        return SigmaSchedule(sampling)


def from_beta_schedule(name: str) -> SigmaSchedule:
    return SigmaSchedule(beta_schedules.model_sampling(name, comfy.model_base.ModelType.EPS))


def raw(
    schedule: str, linear_start: float, linear_end: float, sampling: str, lcm_original_timesteps: int, zsnr: bool
) -> SigmaSchedule:
    if schedule in ENDS_COUNT and linear_start >= linear_end:
        raise SigmaScheduleError(
            f"linear_start is {linear_start:g} and linear_end {linear_end:g}, but noise has to grow from one to the other. Set "
            "linear_start below linear_end; 0.00085 and 0.012 are those of Stable Diffusion."
        )
    if sampling == "lcm":
        if lcm_original_timesteps > MOST_TIMESTEPS:
            raise SigmaScheduleError(
                f"lcm_original_timesteps is {lcm_original_timesteps}, but a schedule has {MOST_TIMESTEPS} timesteps. Lower it; "
                "50 suits most models."
            )
        return SigmaSchedule(lcm_schedule(schedule, lcm_original_timesteps, linear_end, linear_start, zsnr))
    model_type = comfy.model_base.ModelType[PREDICTIONS[sampling]]
    return SigmaSchedule(discrete_schedule(model_type, schedule, linear_end, linear_start, zsnr))


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


def total_steps(steps: int, denoise: float) -> int:
    """How many steps the whole schedule has of which ``steps`` are the share ``denoise``, above 0.

    Raises SigmaScheduleError for more than MOST_STEPS.
    """
    total = steps if denoise >= 1.0 else int(steps / denoise)
    if total > MOST_STEPS:
        raise SigmaScheduleError(
            f"{steps} steps at a denoise of {denoise:g} are the end of a schedule of {total} steps; at most {MOST_STEPS} are "
            "possible. Lower steps, or raise denoise."
        )
    return total


def sampler_sigmas(schedule: SigmaSchedule, scheduler: str, steps: int, denoise: float) -> torch.Tensor:
    """SIGMAS for a custom sampler, ``(steps + 1,)``, descending; none at a ``denoise`` of 0."""
    if denoise <= 0.0:
        return torch.FloatTensor([])
    total = total_steps(steps, denoise)
    return comfy.samplers.calculate_sigmas(schedule.sampling, scheduler, total).cpu()[-(steps + 1) :]
