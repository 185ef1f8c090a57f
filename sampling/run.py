"""One sampler run.

``outer_sample`` makes the run and puts it into the run's own transformer_options; every denoiser call of every guider
then passes through ``calc_cond_batch``, which turns it into what that one UNet call needs. Nothing of it is stored
anywhere else, so nested runs and runs one after another cannot see each other.
"""

import logging
from dataclasses import dataclass

import torch

from ..host.model_sampling import keep_on
from ..motion_models.call import OPTIONS_KEY, MotionCall
from ..motion_models.group_norm import joint_group_norm
from .motion import MotionModels, MotionSettings

# The key under which a MODEL carries everything of ours (attachment, additional models, injections, wrappers).
MODEL_KEY = "AnimateDiff"
# What other packs (ControlNet, IPAdapter) read to learn which frames they are asked for.
FRAMES_KEY = "ad_params"


@dataclass(frozen=True)
class ActiveRange:
    """A motion model is active while end_sigma <= sigma <= start_sigma."""

    start_sigma: float
    end_sigma: float

    @classmethod
    def of(cls, settings: MotionSettings, model_sampling) -> "ActiveRange | None":
        """None if the model is active from start to end, so that no sigma need be looked at."""
        if settings.start_percent <= 0.0 and settings.end_percent >= 1.0:
            return None
        to_sigma = model_sampling.percent_to_sigma
        return cls(float(to_sigma(settings.start_percent)), float(to_sigma(settings.end_percent)))


@dataclass(frozen=True)
class SamplerRun:
    """All that lasts for one sampler run. ``frames`` is the length of the whole clip."""

    frames: int
    settings: tuple[MotionSettings, ...]
    ranges: tuple[ActiveRange | None, ...]

    def call(self, timestep: torch.Tensor) -> MotionCall:
        """The inputs of the motion models for a denoiser call at sigma ``timestep[0]``."""
        # The sigma lives on the GPU and reading it waits for the GPU: only done if a percent range asks for it.
        sigma = timestep[0].item() if any(self.ranges) else None
        return MotionCall(
            tuple(
                # one frame has no motion: the modules would only disturb it
                settings.inputs(self.frames > 1 and (r is None or r.end_sigma <= sigma <= r.start_sigma))
                for settings, r in zip(self.settings, self.ranges, strict=True)
            )
        )


def outer_sample(executor, noise, latent_image, *args, **kwargs):
    """OUTER_SAMPLE wrapper: the life of one run."""
    patcher = executor.class_obj.model_patcher
    motion_models: MotionModels = patcher.get_attachment(MODEL_KEY)
    options = executor.class_obj.model_options["transformer_options"]
    frames = latent_image.shape[0]
    _check_length(frames, motion_models, executor.class_obj.model_options.get("context_handler"))
    model_sampling = patcher.get_model_object("model_sampling")
    run = SamplerRun(
        frames=frames,
        settings=tuple(m.settings for m in motion_models),
        ranges=tuple(ActiveRange.of(m.settings, model_sampling) for m in motion_models),
    )
    keep_on(model_sampling, patcher.load_device)
    # these options are a copy that the host made for this run
    options[OPTIONS_KEY] = run
    try:
        return executor(noise, latent_image, *args, **kwargs)
    finally:
        # The host leaves models injected until another takes their place. Then a LoRA node looking for layers by name
        # would miss those behind an injected one, so the UNet is handed back as it was.
        for loaded in (patcher, *patcher.get_additional_models_with_key("multigpu")):
            loaded.eject_model()


def calc_cond_batch(executor, model, conds, x_in, timestep, model_options):
    """CALC_COND_BATCH wrapper: where every guider passes, for each denoiser call (and each window of the host's)."""
    options = model_options["transformer_options"]
    run = options.get(OPTIONS_KEY)
    if run is None:
        # evaluated outside a sampler run: the modules work with their defaults
        return executor(model, conds, x_in, timestep, model_options)
    window = _host_window(options, x_in.shape[0])
    options = {
        **options,
        OPTIONS_KEY: run.call(timestep),
        FRAMES_KEY: {
            "full_length": run.frames,
            "context_length": None if window is None else len(window),
            "sub_idxs": window,
        },
    }
    return executor(model, conds, x_in, timestep, {**model_options, "transformer_options": options})


def diffusion_model(executor, *args, **kwargs):
    """DIFFUSION_MODEL wrapper for motion models that were trained with joint group norm."""
    options = kwargs["transformer_options"] if "transformer_options" in kwargs else args[5]
    with joint_group_norm(executor.class_obj, clips=len(options["cond_or_uncond"])):
        return executor(*args, **kwargs)


def _host_window(options: dict, frames: int) -> list[int] | None:
    """The frames of this call if the host's own Context Windows node cut them out of the clip."""
    window = options.get("context_window")
    if window is None:
        return None
    indices = [int(i) for i in window.index_list]
    anchor = getattr(window, "causal_anchor_index", None)
    if anchor is not None and anchor >= 0:
        indices.insert(0, anchor)
    return indices if len(indices) == frames else None


def _check_length(frames: int, motion_models: MotionModels, context_handler) -> None:
    if not motion_models:
        return
    if frames == 1:
        logging.warning(
            "[AnimateDiff] The latent batch holds a single frame, so the motion model is bypassed. "
            "For an animation set batch_size of the empty latent to the number of frames, for example 16."
        )
    length, windows = frames, False
    if context_handler is not None and context_handler.dim == 0 and frames > context_handler.context_length:
        windows = True
        length = context_handler.context_length + bool(getattr(context_handler, "causal_window_fix", False))
    for motion_model in motion_models:
        if length <= motion_model.spec.max_frames:
            continue
        if windows:
            raise ValueError(
                f"A context window of {length} frames (with causal_window_fix the host adds one) is longer than the "
                f"{motion_model.spec.max_frames} frames that the motion model '{motion_model.spec.name}' can handle "
                "at once. Lower context_length of the Context Windows node."
            )
        raise ValueError(
            f"The clip has {frames} frames, but the motion model '{motion_model.spec.name}' handles at most "
            f"{motion_model.spec.max_frames} at once. Add the node 'Context Windows (Manual)' between the AnimateDiff "
            f"nodes and the sampler, with context_length at most {motion_model.spec.max_frames} and "
            "causal_window_fix off; or lower batch_size."
        )
