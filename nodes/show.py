"""Settings as a picture, on the node that they are connected to."""

import math
from collections.abc import Callable, Sequence
from itertools import takewhile

import torch
from comfy_api.latest import io, ui

from ..lora.motion_lora import MotionLoras
from ..metrics.camera_path import camera_path
from ..metrics.curves import masks, over_frames, over_run
from ..motion_models.adapters import camera
from ..motion_models.network.strength import for_frames
from ..sampling.guidance.custom_cfg import CustomCfg
from ..sampling.keyframes import Starting, from_the_start, inherited
from ..sampling.motion.applied import Keyframe
from ..sampling.schedules.sigma_schedules import SigmaSchedule, from_beta_schedule
from ..sampling.strength.multival import Multival, as_mask
from ..sampling.windows.context import Contexts
from ..sampling.windows.pictures import weights_map
from ..sampling.windows.plan import plan
from .base import EmptyInput, node
from .kinds import KINDS

MOST_FRAMES = 4096
STEPS = 4  # of the run whose windows are shown
WIDTH = 960  # pixels, of windows


def _windows(contexts: Contexts, frames: int) -> torch.Tensor:
    sampling = from_beta_schedule("sqrt_linear (AnimateDiff)").sampling
    sigmas = torch.tensor([*(_sigma(sampling, i / STEPS) for i in range(STEPS)), 0.0])
    return weights_map(plan(contexts, frames, sampling, sigmas), frames, WIDTH)


def _sigma(sampling, percent: float) -> float:
    """The noise level; the host puts percent 0 above all of them, and 1 below."""
    return min(max(float(sampling.percent_to_sigma(percent)), float(sampling.sigma_min)), float(sampling.sigma_max))


def _keyframes(keyframes: tuple[Keyframe, ...], frames: int) -> torch.Tensor:
    whole = inherited(from_the_start(keyframes, Keyframe()), ("scale", "effect"))
    values = {
        name: _held(whole, lambda keyframe, name=name: _mean(getattr(keyframe, name))) for name in ("scale", "effect")
    }
    return over_run("keyframes: what multiplies scale and effect", values)


def _custom_cfg(keyframes: CustomCfg, frames: int) -> torch.Tensor:
    return over_run("CFG", {"cfg": _held(keyframes, lambda keyframe: _mean(keyframe.cfg))})


def _held(items: Sequence[Starting], value: Callable) -> Callable[[float], float]:
    """The value of the last item that starts at a percent or before it; before all of them that of the first."""

    def at(percent: float) -> float:
        return value(([*takewhile(lambda item: item.start_percent <= percent, items)] or [items[0]])[-1])

    return at


def _mean(value: Multival | None) -> float:
    return 1.0 if value is None else float(as_mask(value).mean())


def _loras(loras: MotionLoras, frames: int) -> torch.Tensor:
    names = [f"{i + 1}. {applied.lora.name}" for i, applied in enumerate(loras)]
    strengths = [applied.strength for applied in loras]
    run = {
        name: lambda percent, of=of: of.number * (of.schedule.at(percent) if of.schedule else 1.0)
        for name, of in zip(names, strengths, strict=True)
    }
    pictures = [over_run("strength of MotionLoRAs over the run", run)]
    over_clip = {
        name: for_frames(of.mask.flatten(1).mean(1), frames).tolist()
        for name, of in zip(names, strengths, strict=True)
        if of.mask is not None
    }
    if over_clip:
        pictures.append(over_frames("times, over the frames", over_clip))
    return torch.cat(pictures, dim=1)


def _poses(poses: camera.Poses, frames: int) -> torch.Tensor:
    camera.check_poses(poses, "settings")
    return camera_path(poses)


def _sigmas(schedule: SigmaSchedule, frames: int) -> torch.Tensor:
    return over_run(
        "noise level: log10 of sigma", {"sigma": lambda percent: math.log10(_sigma(schedule.sampling, percent))}
    )


def _numbers(values: float | list[float], frames: int) -> torch.Tensor:
    values = [float(value) for value in (values if isinstance(values, list) else [values])]
    return over_frames("value", {"value": (values + values[-1:] * frames)[:frames]})


def _multival(value: Multival, frames: int) -> torch.Tensor:
    if isinstance(value, torch.Tensor) and value[0].numel() > 1:
        return masks("multival", for_frames(value, frames))
    return _numbers(as_mask(value).flatten().tolist(), frames)


# What can be connected, by the type of its socket.
SHOWN: dict[str, Callable[..., torch.Tensor]] = {
    "CONTEXT_OPTIONS": _windows,
    "AD_KEYFRAMES": _keyframes,
    "CUSTOM_CFG": _custom_cfg,
    "MOTION_LORA": _loras,
    "CAMERACTRL_POSES": _poses,
    "SIGMA_SCHEDULE": _sigmas,
    "FLOATS": _numbers,
    "FLOAT": _numbers,
    "MULTIVAL": _multival,
}


def _show(settings: object, frames: int) -> io.NodeOutput:
    if isinstance(settings, Sequence) and not settings:
        raise EmptyInput(
            "The input settings of Show Settings got an empty chain or list: there is nothing to draw. Connect settings that "
            "hold something."
        )
    draw = next(draw for io_type, draw in SHOWN.items() if (fits := KINDS[io_type].fits) and fits(settings))
    picture = draw(settings, min(frames, MOST_FRAMES))
    return io.NodeOutput(picture, ui=ui.PreviewImage(picture))


NODES = [
    node(
        _show,
        node_id="AnimateDiffShowSettings",
        display_name="Show Settings",
        category="AnimateDiff/extras",
        description="Draws what is connected: windows and how much each frame counts in them, keyframes, schedules, multivals, "
        "strengths of MotionLoRAs, the way of a camera.",
        inputs=[
            io.MultiType.Input(
                "settings",
                types=[io.Custom(name) for name in SHOWN],
                tooltip="Context options, keyframes, a custom CFG, MotionLoRAs, camera poses, a sigma schedule, a multival, or numbers.",
            ),
            io.Int.Input(
                "frames",
                default=32,
                min=1,
                max=MOST_FRAMES,
                tooltip="How many frames the clip has: batch_size of its latents.",
            ),
        ],
        outputs=[io.Image.Output("IMAGE", tooltip="The drawing, which the node shows as well.")],
        is_output_node=True,
        aliases=("picture", "plot", "preview settings", "visualize"),
    )
]
