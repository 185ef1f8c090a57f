"""Pictures of context windows: what a sampler would do with context options, without sampling."""

from collections.abc import Callable

import comfy.samplers
import torch
from comfy_api.latest import io

from ...sampling.windows.context import Contexts
from ...sampling.windows.pictures import pictures, weights_map
from ...sampling.windows.plan import PlannedStep, contexts_of, ksampler_sigmas, plan
from .. import sockets
from ..base import Node, node
from ..values import at_least, at_most

CATEGORY = "AnimateDiff/context/visualize"
MOST_FRAMES = 16384
MOST_STEPS = 10_000  # of a sampler node
NARROWEST = 32  # pixels; narrower pictures have no room for frames
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
        io.Int.Input(
            "visual_width", default=1440, min=32, max=16384, optional=True, tooltip="Width of the drawing in pixels."
        ),
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


def _plan(model, sigmas: torch.Tensor, context_opts: Contexts | None, frames: int, width: int) -> list[PlannedStep]:
    at_least("visual_width", width, NARROWEST)
    if frames > MOST_FRAMES:
        raise ValueError(f"latents_length is {frames}; pictures are made of up to {MOST_FRAMES} frames. Lower it.")
    at_most("The number of steps", len(sigmas) - 1, MOST_STEPS, "no sampler node has more")
    if len(sigmas) < 2:
        raise ValueError(
            "There are no steps to show: sigmas holds fewer than two values. Raise the steps that made it."
        )
    contexts = contexts_of(model) if context_opts is None else context_opts
    return plan(contexts, frames, model.get_model_object("model_sampling"), sigmas)


def _of_sigmas(
    model,
    sigmas: torch.Tensor,
    context_opts: Contexts | None = None,
    visual_width: int = 1440,
    latents_length: int = 32,
) -> torch.Tensor:
    return pictures(_plan(model, sigmas, context_opts, latents_length, visual_width), latents_length, visual_width)


def _of_ksampler(
    model, sampler_name: str, scheduler: str, steps: int = 20, denoise: float = 1.0, **clip
) -> torch.Tensor:
    return _of_sigmas(model, ksampler_sigmas(model, sampler_name, scheduler, steps, denoise), **clip)


def _of_advanced(
    model, sampler_name: str, scheduler: str, steps: int = 20, start_step: int = 0, end_step: int = 20, **clip
) -> torch.Tensor:
    sigmas = ksampler_sigmas(model, sampler_name, scheduler, steps, start_step=start_step, end_step=end_step)
    return _of_sigmas(model, sigmas, **clip)


def _map(
    model,
    sampler_name: str,
    scheduler: str,
    context_opts: Contexts | None = None,
    visual_width: int = 1440,
    latents_length: int = 32,
    steps: int = 20,
    denoise: float = 1.0,
) -> torch.Tensor:
    sigmas = ksampler_sigmas(model, sampler_name, scheduler, steps, denoise)
    return weights_map(_plan(model, sigmas, context_opts, latents_length, visual_width), latents_length, visual_width)


def _node(run: Callable, *, description: str = ABOUT, aliases: tuple[str, ...] = (), **fields) -> type[Node]:
    return node(
        run,
        category=CATEGORY,
        description=description,
        outputs=[io.Image.Output("IMAGE", tooltip="The drawing, for Preview Image.")],
        aliases=(*aliases, "show windows", "sliding window"),
        **fields,
    )


NODES = [
    _node(
        _of_ksampler,
        node_id="ADE_VisualizeContextOptionsK",
        display_name="Visualize Context Options (KSampler)",
        old_name="Visualize Context Options (K.)",
        inputs=[MODEL, *_sampler(), *_clip(), _steps(), _denoise()],
    ),
    _node(
        _of_advanced,
        node_id="ADE_VisualizeContextOptionsKAdv",
        display_name="Visualize Context Options (KSampler Advanced)",
        old_name="Visualize Context Options (K.Adv.)",
        inputs=[
            MODEL,
            *_sampler(),
            *_clip(),
            _steps(),
            io.Int.Input(
                "start_step",
                default=0,
                min=0,
                max=sockets.LARGEST,
                optional=True,
                tooltip="start_at_step of your KSampler (Advanced).",
            ),
            io.Int.Input(
                "end_step",
                default=20,
                min=1,
                max=sockets.LARGEST,
                optional=True,
                tooltip="end_at_step of your KSampler (Advanced).",
            ),
        ],
    ),
    _node(
        _of_sigmas,
        node_id="ADE_VisualizeContextOptionsSCustom",
        display_name="Visualize Context Options (SamplerCustom)",
        old_name="Visualize Context Options (S.Cus.)",
        inputs=[MODEL, io.Sigmas.Input("sigmas", tooltip="As in your SamplerCustom."), *_clip()],
    ),
    _node(
        _map,
        node_id="AnimateDiffVisualizeFuseWeights",
        display_name="Visualize Fuse Weights",
        aliases=("coverage", "heat map"),
        description=ABOUT_MAP,
        inputs=[MODEL, *_sampler(), *_clip(), _steps(), _denoise()],
    ),
]
