"""Pictures of context windows: what a sampler would do with context options, without sampling."""

import comfy.samplers
from comfy_api.latest import io

from ...sampling.windows.pictures import pictures, weights_map
from ...sampling.windows.plan import PlannedStep, contexts_of, ksampler_sigmas, plan
from .. import sockets
from ..make import node

CATEGORY = "AnimateDiff/context/visualize"
MOST_FRAMES = 16384
MODEL = io.Model.Input("model", tooltip="Whose noise schedule counts, and whose context options if none are connected.")
ABOUT = (
    "One picture for each window of each step: the frames that the window takes, among the step's other windows, and "
    "the views in it. Shows what is really sampled (by samplers that evaluate once a step): of several context options at "
    "start_percent 0 the last one counts."
)
ABOUT_MAP = (
    "How much every frame counts: frames from left to right, for each step its windows and their sum, and at the bottom "
    "the sum over all steps."
)


def _sampler() -> list[io.Input]:
    return [
        io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, tooltip="As in your KSampler."),
        io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, tooltip="As in your KSampler."),
    ]


def _clip() -> list[io.Input]:
    return [
        sockets.ContextOptions.Input(
            "context_opts", optional=True, tooltip="Context options to show; without them those of the MODEL."
        ),
        io.Int.Input("visual_width", default=1440, min=32, max=16384, optional=True, tooltip="In pixels."),
        io.Int.Input(
            "latents_length",
            default=32,
            min=1,
            max=sockets.LARGEST,
            optional=True,
            tooltip="How many frames the clip has.",
        ),
    ]


def _steps() -> io.Input:
    return io.Int.Input("steps", default=20, min=0, max=sockets.LARGEST, optional=True, tooltip="As in your KSampler.")


def _denoise() -> io.Input:
    return io.Float.Input(
        "denoise", default=1.0, min=0.0, max=1.0, step=0.01, optional=True, tooltip="As in your KSampler."
    )


def _plan(model, sigmas, context_opts, frames: int) -> list[PlannedStep]:
    if frames > MOST_FRAMES:
        raise ValueError(f"latents_length is {frames}; pictures are made of up to {MOST_FRAMES} frames. Lower it.")
    if len(sigmas) < 2:
        raise ValueError(
            "There are no steps to show: sigmas holds fewer than two values. Raise the steps that made it."
        )
    contexts = contexts_of(model) if context_opts is None else context_opts
    return plan(contexts, frames, model.get_model_object("model_sampling"), sigmas)


def _of_sigmas(model, sigmas, context_opts=None, visual_width=1440, latents_length=32):
    return pictures(_plan(model, sigmas, context_opts, latents_length), latents_length, visual_width)


def _of_ksampler(model, sampler_name, scheduler, steps=20, denoise=1.0, **clip):
    return _of_sigmas(model, ksampler_sigmas(model, sampler_name, scheduler, steps, denoise), **clip)


def _of_advanced(model, sampler_name, scheduler, steps=20, start_step=0, end_step=20, **clip):
    sigmas = ksampler_sigmas(model, sampler_name, scheduler, steps, start_step=start_step, end_step=end_step)
    return _of_sigmas(model, sigmas, **clip)


def _map(
    model, sampler_name, scheduler, context_opts=None, visual_width=1440, latents_length=32, steps=20, denoise=1.0
):
    sigmas = ksampler_sigmas(model, sampler_name, scheduler, steps, denoise)
    return weights_map(_plan(model, sigmas, context_opts, latents_length), latents_length, visual_width)


def _node(run, inputs: list[io.Input], node_id: str, name: str, description: str = ABOUT, aliases: tuple = ()) -> type:
    return node(
        run,
        inputs,
        [io.Image.Output("IMAGE")],
        node_id=node_id,
        display_name=name,
        category=CATEGORY,
        description=description,
        search_aliases=[*aliases, "show windows", "sliding window"],
    )


NODES = [
    _node(
        _of_ksampler,
        [MODEL, *_sampler(), *_clip(), _steps(), _denoise()],
        "ADE_VisualizeContextOptionsK",
        "Visualize Context Options (KSampler)",
        aliases=("Visualize Context Options (K.) 🎭🅐🅓",),
    ),
    _node(
        _of_advanced,
        [
            MODEL,
            *_sampler(),
            *_clip(),
            _steps(),
            io.Int.Input("start_step", default=0, min=0, max=sockets.LARGEST, optional=True, tooltip="start_at_step."),
            io.Int.Input("end_step", default=20, min=1, max=sockets.LARGEST, optional=True, tooltip="end_at_step."),
        ],
        "ADE_VisualizeContextOptionsKAdv",
        "Visualize Context Options (KSampler Advanced)",
        aliases=("Visualize Context Options (K.Adv.) 🎭🅐🅓",),
    ),
    _node(
        _of_sigmas,
        [MODEL, io.Sigmas.Input("sigmas", tooltip="As in your SamplerCustom."), *_clip()],
        "ADE_VisualizeContextOptionsSCustom",
        "Visualize Context Options (SamplerCustom)",
        aliases=("Visualize Context Options (S.Cus.) 🎭🅐🅓",),
    ),
    _node(
        _map,
        [MODEL, *_sampler(), *_clip(), _steps(), _denoise()],
        "AnimateDiffVisualizeFuseWeights",
        "Visualize Fuse Weights",
        ABOUT_MAP,
        ("coverage", "heat map"),
    ),
]
