"""One sampler run.

``outer_sample`` makes the run and puts it into the run's own transformer_options; every denoiser call of every guider
then passes through ``calc_cond_batch``, which turns it into what that one UNet call needs. Nothing of it is stored
anywhere else, so nested runs and runs one after another cannot see each other.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

import torch

from ..host.model_sampling import keep_on
from ..motion_models.network.call import BYPASS, OPTIONS_KEY, MotionCall, View
from ..motion_models.network.group_norm import joint_group_norm
from .guidance.custom_cfg import GuidanceRun, install
from .motion.applied import AppliedMotionModel, MotionModels
from .motion.in_run import ActiveRange, MotionRun
from .noise.initial import NoiseWindow
from .noise.iterations import Start
from .sample_settings import SampleSettings
from .windows.conditioning import warn_about_lengths
from .windows.context import Context, Contexts
from .windows.schedules import Window
from .windows.windowed import in_windows
from .windows.windowed_run import WindowedRun

# The key under which a MODEL carries everything of ours (attachment, additional models, injections, wrappers).
MODEL_KEY = "AnimateDiff"
# What other packs (ControlNet, IPAdapter) read to learn which frames they are asked for.
FRAMES_KEY = "ad_params"


@dataclass(frozen=True)
class Animation:
    """What a MODEL samples with: its attachment under MODEL_KEY."""

    motion_models: MotionModels = ()
    contexts: Contexts = ()
    settings: SampleSettings = field(default_factory=SampleSettings)

    def cut(self, frames: int) -> Context | None:
        """The first context if it cuts a clip of ``frames`` frames into windows; it decides for those that follow."""
        return self.contexts[0] if self.contexts and self.contexts[0].cut(frames) else None


class LatentSource(NamedTuple):
    """What iterations need to know of the model: its noise levels, and the scale of its latents."""

    model_sampling: torch.nn.Module
    latent_format: object


@dataclass(frozen=True, eq=False)
class SamplerRun:
    """All that lasts for one pass over the sampling schedule. ``frames`` is the length of the whole clip."""

    frames: int
    motion: tuple[MotionRun, ...]
    windowed: WindowedRun | None = None
    guidance: GuidanceRun | None = None

    @classmethod
    def of(
        cls, animation: Animation, frames: int, model_sampling, sigmas: torch.Tensor, seed: int, device
    ) -> "SamplerRun":
        first_sigma = float(sigmas.max())
        custom_cfg = animation.settings.custom_cfg
        return cls(
            frames=frames,
            motion=tuple(
                MotionRun.of(applied, frames, model_sampling, first_sigma, device)
                for applied in animation.motion_models
            ),
            windowed=WindowedRun.of(animation.contexts, frames, model_sampling, first_sigma, seed)
            if animation.cut(frames)
            else None,
            guidance=GuidanceRun.of(custom_cfg, model_sampling, first_sigma) if custom_cfg else None,
        )

    def options(
        self, options: dict, sigma: Callable[[], float], window: Window | None, views: tuple[View, ...] = ()
    ) -> dict:
        """transformer_options for a denoiser call at ``sigma()`` with the frames ``window`` (None: all)."""
        if self.frames > 1:
            motion = tuple(motion.inputs(sigma, window, views) for motion in self.motion)
        else:
            # one frame has no motion: the modules would only disturb it
            motion = (BYPASS,) * len(self.motion)
        frames = {
            "full_length": self.frames,
            "context_length": None if window is None else len(window),
            "sub_idxs": window,
        }
        return {**options, OPTIONS_KEY: MotionCall(motion), FRAMES_KEY: frames}


def outer_sample(
    executor,
    noise,
    latent_image,
    sampler,
    sigmas,
    denoise_mask=None,
    callback=None,
    disable_pbar=False,
    seed=None,
    **kwargs,
):
    """OUTER_SAMPLE wrapper: the life of one run, in as many passes as the iteration options ask for."""
    guider = executor.class_obj
    patcher, model_options = guider.model_patcher, guider.model_options
    animation: Animation = patcher.get_attachment(MODEL_KEY)
    settings = animation.settings
    seed = seed or 0
    frames = latent_image.shape[0]
    model_sampling = patcher.get_model_object("model_sampling")
    keep_on(model_sampling, patcher.load_device)
    if settings.custom_cfg:
        install(model_options)
    conds = {name: list(map(dict, conds)) for name, conds in guider.conds.items()}

    cut_by = animation.cut(frames)
    contexts = () if cut_by is None else animation.contexts
    for context in contexts:
        context.check(frames)
    _check_length(
        frames, animation.motion_models, contexts, model_options.get("context_handler"), model_sampling, sigmas
    )
    warn_about_lengths(guider.conds, frames, windowed=cut_by is not None)
    window = _noise_window(cut_by, frames)
    # later stages of KSamplerAdvanced add no noise
    added = settings.noise.noise(seed, latent_image, noise, window) if torch.any(noise) else noise
    first = Start(added, latent_image)
    new_noise = partial(settings.noise.noise, seed, latent_image, added, window, force=True)

    def one_pass(start: Start) -> torch.Tensor:
        run = SamplerRun.of(animation, frames, model_sampling, sigmas, seed, patcher.load_device)
        # these options are a copy that the host made for this run
        model_options["transformer_options"][OPTIONS_KEY] = run
        # the host prepares conds for a pass in place
        guider.conds = {name: list(map(dict, of_name)) for name, of_name in conds.items()}
        counted = _counting(run.windowed, callback)
        # anew in each pass: its noise begins again
        ours = sampler if settings.ancestral is None else settings.ancestral.applied(sampler, seed, noise.shape)
        try:
            return executor(
                start.noise, start.latents, ours, sigmas, denoise_mask, counted, disable_pbar, seed, **kwargs
            )
        finally:
            if run.windowed is not None:
                run.windowed.controls.restore()

    source = LatentSource(model_sampling, patcher.get_model_object("latent_format"))
    try:
        start, made = first, latent_image
        for i in range(settings.iterations.count):
            start = settings.iterations.start(i, start, made, first, new_noise, source)
            made = one_pass(start)
        return made
    finally:
        # The host leaves models injected until another takes their place. Then a LoRA node looking for layers by name
        # would miss those behind an injected one, so the UNet is handed back as it was.
        for loaded in (patcher, *patcher.get_additional_models_with_key("multigpu")):
            loaded.eject_model()


def _noise_window(context: Context | None, frames: int) -> NoiseWindow | None:
    """What repeated and shuffled noise goes by: the views of the first context, or its windows."""
    if context is None:
        return None
    windows = context.views.windows if context.views else context.windows
    return NoiseWindow(windows.length or frames, windows.overlap)


def _counting(windowed: WindowedRun | None, callback: Callable | None) -> Callable | None:
    """The sampler's callback, which also tells the windows which step comes next."""
    if windowed is None:
        return callback

    def counted(step, *args):
        if callback is not None:
            callback(step, *args)
        windowed.step = step + 1

    return counted


def prepare_sampling(executor, model, noise_shape, conds, *args, **kwargs):
    """PREPARE_SAMPLING wrapper: the host reckons memory with as many frames as the UNet sees at once."""
    context = model.get_attachment(MODEL_KEY).cut(noise_shape[0])
    if context is not None:
        noise_shape = [context.frames_at_once(noise_shape[0]), *noise_shape[1:]]
    return executor(model, noise_shape, conds, *args, **kwargs)


def calc_cond_batch(executor, model, conds, x_in, timestep, model_options):
    """CALC_COND_BATCH wrapper: where every guider passes, for each denoiser call (and each window of the host's)."""
    options = model_options["transformer_options"]
    run: SamplerRun | None = options.get(OPTIONS_KEY)
    if run is None:
        # evaluated outside a sampler run: the modules work with their defaults
        return executor(model, conds, x_in, timestep, model_options)

    @cache
    def sigma() -> float:
        return float(timestep[0])

    if run.guidance is not None and len(conds) == 2 and run.guidance.leaves_out_uncond(model_options, sigma):
        conds = [conds[0], None]

    def evaluate(conds, x, timestep, window, views=()):
        changed = run.options(options, sigma, window, views)
        return executor(model, conds, x, timestep, {**model_options, "transformer_options": changed})

    windowed = run.windowed
    if windowed is None or len(x_in) != run.frames:
        return evaluate(conds, x_in, timestep, _host_window(options, len(x_in)))

    def evaluate_window(conds, x, timestep, window):
        return evaluate(conds, x, timestep, window, windowed.views(context, len(window), sigma))

    context = windowed.context(sigma)
    fuse_context = windowed.fuse_context(run.frames, context.windows.overlap, context.fuse, sigma)
    cut = windowed.windows(context)
    return in_windows(evaluate_window, conds, x_in, timestep, cut, context.fuse, fuse_context, windowed.controls)


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


def _meet(motion_model: AppliedMotionModel, context: Context, model_sampling, sigmas: torch.Tensor) -> bool:
    """Whether a motion model still acts when ``context`` is in force."""
    active = ActiveRange.of(motion_model.settings, model_sampling)
    if active is None:
        return True
    start = float(model_sampling.percent_to_sigma(context.start_percent))
    # a step at the very sigma where one ends and the other begins belongs to both
    return active.end_sigma < start or (active.end_sigma == start and start in sigmas.tolist())


def _check_length(
    frames: int,
    motion_models: MotionModels,
    contexts: Contexts,
    context_handler,
    model_sampling,
    sigmas: torch.Tensor,
) -> None:
    if not motion_models:
        return
    if frames == 1:
        logging.warning(
            "[AnimateDiff] The latent batch holds a single frame, so the motion model is bypassed. "
            "For an animation set batch_size of the empty latent to the number of frames, for example 16."
        )
    length, cut_by = frames, ""
    if contexts:
        length = contexts[0].frames_attending(frames)
        cut_by = "Lower context_length (or view_length) of the Context Options node."
    elif context_handler is not None and context_handler.dim == 0 and frames > context_handler.context_length:
        length = context_handler.context_length + bool(getattr(context_handler, "causal_window_fix", False))
        cut_by = (
            "Lower context_length of the Context Windows node; with causal_window_fix the host adds one frame to it."
        )
    for motion_model in motion_models:
        most = motion_model.spec.max_frames
        later = [context for context in contexts[1:] if _meet(motion_model, context, model_sampling, sigmas)]
        longest = max([length, *(context.frames_attending(frames) for context in later)])
        if longest <= most:
            continue
        if cut_by:
            raise ValueError(
                f"A context window of {longest} frames is longer than the {most} frames that the motion model "
                f"'{motion_model.spec.name}' can handle at once. {cut_by}"
            )
        raise ValueError(
            f"The clip has {frames} frames, but the motion model '{motion_model.spec.name}' handles at most {most} at once. "
            "Connect a Context Options node to context_options (Looped Uniform or Standard Static, with a context_length of "
            f"{min(16, most)}); or lower batch_size."
        )
