"""The two UNet passes of MotionClone beside the denoiser's own: on the reference, and for the gradient."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP

from ...host.gradients import differentiable, gradients
from ...motion_models.network.call import CALL_KEY, MotionCall
from ...motion_models.network.checkpointing import checkpointed
from ...motion_models.network.group_norm import joint_group_norm
from ..feature import Call, Denoise
from .maps import Comparison, MotionMaps, Reading, SeenEnough, watched

KEY = "AnimateDiff MotionClone"
# What a cond of the clip has that the reference is looked at without.
OF_THE_CLIP = ("control", "area", "mask", "timestep_start", "timestep_end")


def motion_maps(call: Call, then: Denoise, noisy: torch.Tensor, sigma: torch.Tensor, block: str, k: int) -> MotionMaps:
    """Those of ``noisy (frames of the call, channels, height, width)`` at ``sigma``, with the negative prompt of the call.

    The paper has the empty text there. Without a negative prompt (CFG 1) the positive one takes its place. Empty where the
    motion model takes no part in the call.
    """
    comfy.model_management.throw_exception_if_processing_interrupted()
    prompts = [call.conds[place] for place in sorted(call.negatives)] + call.conds
    prompt = next(cond for cond in prompts if cond)
    entry = {name: value for name, value in prompt[0].items() if name not in OF_THE_CLIP}
    reading = Reading(block, k)
    call = replace(call, conds=[[entry]], x=noisy, timestep=sigma.to(call.timestep).expand(len(noisy)))
    with suppress(SeenEnough):
        then(call.with_options(**{CALL_KEY: watched(MotionCall.of(call.options), reading.attend)}))
    return reading.maps


def gradient_of_energy(call: Call, then: Denoise, maps: MotionMaps, joint: bool) -> torch.Tensor | None:
    """Of the energy against ``maps``, with respect to the latents ``call.x``, of which it has the shape.

    Of the positive prompt; of several for the whole picture the mean is taken. None where there is none, or the motion model
    takes no part in the call. ``joint``: group norms are taken over all frames.
    """
    comfy.model_management.throw_exception_if_processing_interrupted()
    found: list[torch.Tensor] = []

    def around_unet(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        clips = len(x) // call.frames
        if x.shape[1:] == call.x.shape[1:]:  # prompts for a part of the picture have their own sizes
            comparison = Comparison(maps, clips)
            motion = {CALL_KEY: watched(MotionCall.of(call.options), comparison.attend)}
            options = {**differentiable(transformer_options or {}), **motion}
            unet = executor.class_obj.diffusion_model
            with gradients(), checkpointed(unet, lambda: _again(unet, call.frames, joint)):
                latents = x.clone().requires_grad_()
                with suppress(SeenEnough):
                    executor(latents, t, c_concat, c_crossattn, control, options, **kwargs)
                if comparison.parts:
                    (gradient,) = torch.autograd.grad(comparison.energy, latents)
                    found.extend(gradient.chunk(clips))
        return torch.zeros_like(x)

    places = [place for place, cond in enumerate(call.conds) if cond and place not in call.negatives]
    wrappers = call.transformer_options.get("wrappers") or {}
    kind = WrappersMP.APPLY_MODEL
    # ahead of those that are there: what they do to a call, they do to this one
    wrappers = {**wrappers, kind: {KEY: [around_unet], **wrappers.get(kind, {})}}
    then(replace(call, conds=[call.conds[place] for place in places[:1]]).with_options(wrappers=wrappers))
    return torch.stack(found).mean(0) if found else None


@contextmanager
def _again(unet, frames: int, joint: bool) -> Iterator[None]:
    """What layers are computed again in, in the backward pass, which may be in another thread."""
    with ExitStack() as stack:
        stack.enter_context(gradients())
        if joint:
            stack.enter_context(joint_group_norm(unet, frames))
        yield
