"""The beta schedules that the nodes offer, by the names that workflow files use.

All go from beta 0.00085; T = 1000. Note the host's naming: its ``linear`` is linear in sqrt(beta) ("scaled_linear"
elsewhere), its ``sqrt_linear`` is linear in beta ("linear" elsewhere), which AnimateDiff was trained with
(arXiv 2307.04725, section 4.2).
"""

from collections.abc import Callable
from functools import partial

import torch

from ...host.model_sampling import discrete_schedule, lcm_schedule

AUTOSELECT = "autoselect"
USE_EXISTING = "use existing"


def _average(first: Callable, second: Callable, *args) -> torch.nn.Module:
    """The mean of two sigma tables, sampled as the first one."""
    sampling, other = first(*args), second(*args)
    sampling.set_sigmas((sampling.sigmas + other.sigmas) / 2)
    return sampling


_linear = partial(discrete_schedule, schedule="linear", linear_end=0.012)
_sqrt_linear = partial(discrete_schedule, schedule="sqrt_linear", linear_end=0.012)


def _lcm(model_type, schedule: str = "linear", original_timesteps: int = 50) -> torch.nn.Module:
    # latent consistency models predict eps, whatever the checkpoint was trained for
    return lcm_schedule(schedule, original_timesteps)


_lcm_sqrt_linear = partial(_lcm, schedule="sqrt_linear")

# name in the combo -> function(model_type) -> model_sampling
SCHEDULES: dict[str, Callable] = {
    "sqrt_linear (AnimateDiff)": _sqrt_linear,
    "linear (AnimateDiff-SDXL)": partial(discrete_schedule, schedule="linear", linear_end=0.020),
    "linear (HotshotXL/default)": _linear,
    "avg(sqrt_linear,linear)": partial(_average, _linear, _sqrt_linear),
    "lcm avg(sqrt_linear,linear)": partial(_average, _lcm, _lcm_sqrt_linear),
    "lcm": _lcm,
    "lcm[100_ots]": partial(_lcm, original_timesteps=100),
    "lcm >> sqrt_linear": _lcm_sqrt_linear,
    "sqrt": partial(discrete_schedule, schedule="sqrt", linear_end=0.012),
    "cosine": partial(discrete_schedule, schedule="cosine", linear_end=0.012),
    "squaredcos_cap_v2": partial(discrete_schedule, schedule="squaredcos_cap_v2", linear_end=0.012),
}
# taken where a link brings its name, but not offered
UNLISTED = {"lcm[25_ots]": partial(_lcm, original_timesteps=25)}
OPTIONS = [AUTOSELECT, USE_EXISTING, *SCHEDULES]


def model_sampling(name: str, model_type) -> torch.nn.Module:
    """The host's model_sampling object for the schedule ``name`` and a checkpoint of ``model_type``."""
    return {**SCHEDULES, **UNLISTED}[name](model_type)


def with_schedule(model, name: str):
    """A clone of a MODEL with the schedule ``name``; AUTOSELECT, which has no motion model to ask, keeps its own."""
    model = model.clone()
    if name not in (AUTOSELECT, USE_EXISTING):
        model.add_object_patch("model_sampling", model_sampling(name, model.model.model_type))
    return model
