"""Sigma schedules: noise levels of one's own."""

from functools import partial

import comfy.samplers
from comfy_api.latest import io

from ...sampling.schedules import beta_schedules, sigma_schedules
from .. import sockets
from ..base import node

CATEGORY = "AnimateDiff/sample settings/sigma schedule"
SCHEDULE = sockets.SigmaSchedule.Output("SIGMA_SCHEDULE")
_node = partial(node, category=CATEGORY)


def _share(name: str, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=0.5, min=0.0, max=1.0, step=0.001, tooltip=tooltip)


def _beta(name: str, default: float, tooltip: str) -> io.Input:
    tooltip += " The cosine curves do without it."
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.000001, tooltip=tooltip)


A = sockets.SigmaSchedule.Input(
    "schedule_A", tooltip="The first schedule. The mixture is sampled the way this one is (eps, v-prediction or LCM)."
)
B = sockets.SigmaSchedule.Input(
    "schedule_B",
    tooltip="The second schedule, which gets the rest of the weight. It needs as many noise levels as the first.",
)

NODES = [
    _node(
        lambda beta_schedule: sigma_schedules.from_beta_schedule(beta_schedule),
        node_id="ADE_SigmaSchedule",
        display_name="Create Sigma Schedule",
        old_name="Create Sigma Schedule",
        description="The noise levels of a beta schedule.",
        inputs=[
            io.Combo.Input(
                "beta_schedule",
                options=list(beta_schedules.SCHEDULES),
                tooltip="Which one. Motion models for SD1.5 are trained with sqrt_linear (AnimateDiff), AnimateLCM with lcm.",
            )
        ],
        outputs=[SCHEDULE],
    ),
    _node(
        lambda raw_beta_schedule, linear_start, linear_end, sampling, lcm_original_timesteps, zsnr: sigma_schedules.raw(
            raw_beta_schedule, linear_start, linear_end, sampling, lcm_original_timesteps, zsnr
        ),
        node_id="ADE_RawSigmaSchedule",
        display_name="Create Raw Sigma Schedule",
        old_name="Create Raw Sigma Schedule",
        description="Noise levels from the numbers of a beta schedule.",
        inputs=[
            io.Combo.Input(
                "raw_beta_schedule",
                options=list(sigma_schedules.RAW_SCHEDULES),
                tooltip="How the betas rise: linear is Stable Diffusion's curve, sqrt_linear AnimateDiff's straight line.",
            ),
            _beta(
                "linear_start", 0.00085, "Beta where noise is lowest: 0.00085 in Stable Diffusion; below linear_end."
            ),
            _beta(
                "linear_end", 0.012, "Beta where noise is highest: 0.012 in Stable Diffusion, 0.02 in AnimateDiff-SDXL."
            ),
            io.Combo.Input(
                "sampling",
                options=list(sigma_schedules.SAMPLINGS),
                tooltip="What the checkpoint predicts: eps (most of them), v_prediction, or lcm with an LCM model.",
            ),
            io.Int.Input(
                "lcm_original_timesteps",
                default=50,
                min=1,
                max=1000,
                tooltip="With lcm: how many of the 1000 timesteps the model was distilled on. 50 suits most; 25 and 100 are known too.",
            ),
            io.Boolean.Input("zsnr", default=False, tooltip="The first step is pure noise: darker darks."),
        ],
        outputs=[SCHEDULE],
    ),
    _node(
        lambda schedule_A, schedule_B, weight_A: sigma_schedules.weighted_mean(schedule_A, schedule_B, weight_A),
        node_id="ADE_SigmaScheduleWeightedAverage",
        display_name="Sigma Schedule Weighted Mean",
        old_name="Sigma Schedule Weighted Mean",
        description="Between two schedules.",
        inputs=[A, B, _share("weight_A", "How much of A: 0 none, 1 nothing else.")],
        outputs=[SCHEDULE],
    ),
    _node(
        lambda schedule_A, schedule_B, weight_A_Start, weight_A_End, interpolation: sigma_schedules.interpolated_mean(
            schedule_A, schedule_B, weight_A_Start, weight_A_End, interpolation
        ),
        node_id="ADE_SigmaScheduleWeightedAverageInterp",
        display_name="Sigma Schedule Interpolated Mean",
        old_name="Sigma Schedule Interp. Mean",
        description="Between two schedules, with a share that changes from high noise to low.",
        inputs=[
            A,
            B,
            _share("weight_A_Start", "How much of A where noise is highest: 0 none, 1 nothing else."),
            _share("weight_A_End", "How much of A where noise is lowest: 0 none, 1 nothing else."),
            sockets.interpolation(),
        ],
        outputs=[SCHEDULE],
    ),
    _node(
        lambda schedule_Start, schedule_End, idx_split_percent: sigma_schedules.split(
            schedule_Start, schedule_End, idx_split_percent
        ),
        node_id="ADE_SigmaScheduleSplitAndCombine",
        display_name="Sigma Schedule Split Combine",
        old_name="Sigma Schedule Split Combine",
        description="One schedule first, then another.",
        inputs=[
            sockets.SigmaSchedule.Input(
                "schedule_Start",
                tooltip="The schedule of the first steps, where noise is high. All is sampled the way it is.",
            ),
            sockets.SigmaSchedule.Input(
                "schedule_End", tooltip="The schedule of the last steps. It needs as many noise levels as the first."
            ),
            _share("idx_split_percent", "Where the second one begins: 0 is pure noise, 1 the finished clip."),
        ],
        outputs=[SCHEDULE],
    ),
    _node(
        lambda sigma_schedule, scheduler, steps, denoise: sigma_schedules.sampler_sigmas(
            sigma_schedule, scheduler, steps, denoise
        ),
        node_id="ADE_SigmaScheduleToSigmas",
        display_name="Sigma Schedule To Sigmas",
        old_name="Sigma Schedule To Sigmas",
        description="The noise levels of each step, for custom samplers.",
        inputs=[
            sockets.SigmaSchedule.Input("sigma_schedule", tooltip="The schedule that the steps are taken from."),
            io.Combo.Input(
                "scheduler",
                options=comfy.samplers.SCHEDULER_NAMES,
                tooltip="How the steps are spread over the schedule, as in KSampler.",
            ),
            io.Int.Input(
                "steps",
                default=20,
                min=1,
                max=10000,
                tooltip="Sampling steps: 20 to 30 are usual, 4 to 8 for LCM models.",
            ),
            io.Float.Input(
                "denoise",
                default=1.0,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="How much of the schedule is sampled: 1 all of it; less keeps some of the clip that goes in.",
            ),
        ],
        outputs=[io.Sigmas.Output("SIGMAS", tooltip="For sigmas of SamplerCustom.")],
    ),
]
