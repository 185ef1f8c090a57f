"""Sigma schedules: noise levels of one's own."""

import comfy.samplers
from comfy_api.latest import io

from ...sampling.schedules import beta_schedules, sigma_schedules
from ...sampling.schedules.interpolation import METHODS
from .. import sockets
from ..make import family

CATEGORY = "AnimateDiff/sample settings/sigma schedule"
SCHEDULE = sockets.SigmaSchedule.Output("SIGMA_SCHEDULE")
_node = family(CATEGORY)


def _share(name: str, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=0.5, min=0.0, max=1.0, step=0.001, tooltip=tooltip)


def _beta(name: str, default: float) -> io.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.000001)


A, B = sockets.SigmaSchedule.Input("schedule_A"), sockets.SigmaSchedule.Input("schedule_B")

NODES = [
    _node(
        "ADE_SigmaSchedule",
        "Create Sigma Schedule",
        "Create Sigma Schedule",
        "The noise levels of a beta schedule.",
        lambda beta_schedule: sigma_schedules.from_beta_schedule(beta_schedule),
        [io.Combo.Input("beta_schedule", options=list(beta_schedules.SCHEDULES))],
        SCHEDULE,
    ),
    _node(
        "ADE_RawSigmaSchedule",
        "Create Raw Sigma Schedule",
        "Create Raw Sigma Schedule",
        "Noise levels from the numbers of a beta schedule.",
        lambda raw_beta_schedule, linear_start, linear_end, sampling, lcm_original_timesteps, zsnr: sigma_schedules.raw(
            raw_beta_schedule, linear_start, linear_end, sampling, lcm_original_timesteps, zsnr
        ),
        [
            io.Combo.Input("raw_beta_schedule", options=list(sigma_schedules.RAW_SCHEDULES)),
            _beta("linear_start", 0.00085),
            _beta("linear_end", 0.012),
            io.Combo.Input("sampling", options=list(sigma_schedules.SAMPLINGS)),
            io.Int.Input("lcm_original_timesteps", default=50, min=1, max=1000),
            io.Boolean.Input("zsnr", default=False, tooltip="The first step is pure noise: darker darks."),
        ],
        SCHEDULE,
    ),
    _node(
        "ADE_SigmaScheduleWeightedAverage",
        "Sigma Schedule Weighted Mean",
        "Sigma Schedule Weighted Mean",
        "Between two schedules.",
        lambda schedule_A, schedule_B, weight_A: sigma_schedules.weighted_mean(schedule_A, schedule_B, weight_A),
        [A, B, _share("weight_A", "How much of A.")],
        SCHEDULE,
    ),
    _node(
        "ADE_SigmaScheduleWeightedAverageInterp",
        "Sigma Schedule Interpolated Mean",
        "Sigma Schedule Interp. Mean",
        "Between two schedules, with a share that changes from high noise to low.",
        lambda schedule_A, schedule_B, weight_A_Start, weight_A_End, interpolation: sigma_schedules.interpolated_mean(
            schedule_A, schedule_B, weight_A_Start, weight_A_End, interpolation
        ),
        [
            A,
            B,
            _share("weight_A_Start", "How much of A where noise is highest."),
            _share("weight_A_End", "How much of A where noise is lowest."),
            io.Combo.Input("interpolation", options=list(METHODS)),
        ],
        SCHEDULE,
    ),
    _node(
        "ADE_SigmaScheduleSplitAndCombine",
        "Sigma Schedule Split Combine",
        "Sigma Schedule Split Combine",
        "One schedule first, then another.",
        lambda schedule_Start, schedule_End, idx_split_percent: sigma_schedules.split(
            schedule_Start, schedule_End, idx_split_percent
        ),
        [
            sockets.SigmaSchedule.Input("schedule_Start"),
            sockets.SigmaSchedule.Input("schedule_End"),
            _share("idx_split_percent", "Where the second one begins."),
        ],
        SCHEDULE,
    ),
    _node(
        "ADE_SigmaScheduleToSigmas",
        "Sigma Schedule To Sigmas",
        "Sigma Schedule To Sigmas",
        "The noise levels of each step, for custom samplers.",
        lambda sigma_schedule, scheduler, steps, denoise: sigma_schedules.sampler_sigmas(
            sigma_schedule, scheduler, steps, denoise
        ),
        [
            sockets.SigmaSchedule.Input("sigma_schedule"),
            io.Combo.Input("scheduler", options=comfy.samplers.SCHEDULER_NAMES),
            io.Int.Input("steps", default=20, min=1, max=10000),
            io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01),
        ],
        io.Sigmas.Output("SIGMAS"),
    ),
]
