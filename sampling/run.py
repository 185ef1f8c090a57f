"""One sampler run.

``outer_sample`` makes the run and puts it into the run's own transformer_options; every denoiser call of every guider
then passes through ``calc_cond_batch``, which turns it into what that one UNet call needs. Nothing of it is stored
anywhere else, so nested runs and runs one after another cannot see each other.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from ..host.model_sampling import keep_on
from ..motion_models.call import OPTIONS_KEY, MotionCall, View
from ..motion_models.group_norm import joint_group_norm
from .conditioning import WindowedControls
from .context import Context, Contexts
from .fuse import FuseContext, depends_on_sigma, fuse_weights
from .motion import MotionModels, MotionSettings
from .selection import Selection
from .strength import RunLowRank, merged
from .windowed import in_windows
from .windows import Window, windows

# The key under which a MODEL carries everything of ours (attachment, additional models, injections, wrappers).
MODEL_KEY = "AnimateDiff"
# What other packs (ControlNet, IPAdapter) read to learn which frames they are asked for.
FRAMES_KEY = "ad_params"


@dataclass(frozen=True)
class Animation:
    """What a MODEL samples with: its attachment under MODEL_KEY."""

    motion_models: MotionModels = ()
    contexts: Contexts = ()


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


@dataclass
class WindowedRun:
    """The windows of one run. ``step`` counts as the sampler's callback does: after the first call of each step."""

    contexts: Contexts
    frames: int
    selection: Selection
    generator: torch.Generator
    controls: WindowedControls = field(default_factory=WindowedControls)
    step: int = 0

    @classmethod
    def of(
        cls, contexts: Contexts, frames: int, model_sampling, sigmas: torch.Tensor, seed: int
    ) -> "WindowedRun | None":
        """None if the clip is not cut. The first context decides; those that follow are used as they are."""
        if not contexts or not contexts[0].cut(frames):
            return None
        starts = [float(model_sampling.percent_to_sigma(context.start_percent)) for context in contexts]
        steps = [context.guarantee_steps for context in contexts]
        selection = Selection(starts, steps, first_sigma=float(sigmas.max()))
        return cls(contexts, frames, selection, torch.Generator().manual_seed(seed))

    def context(self, sigma: Callable[[], float]) -> Context:
        return self.contexts[self.selection.at(sigma()) if len(self.contexts) > 1 else 0]

    def windows(self, context: Context) -> list[Window]:
        return windows(self.frames, context.windows, self.step)

    def fuse_context(self, frames: int, overlap: int, fuse: str, sigma: Callable[[], float]) -> FuseContext:
        return FuseContext(frames, overlap, sigma() if depends_on_sigma(fuse) else 0.0, self.generator)

    def views(self, context: Context, frames: int, sigma: Callable[[], float]) -> tuple[View, ...]:
        """The views of a call of ``frames`` frames."""
        views = context.views
        if views is None or not views.cut(frames):
            return ()
        fuse_context = self.fuse_context(frames, views.windows.overlap, views.fuse, sigma)
        return tuple(
            View(window, fuse_weights(views.fuse, window, fuse_context))
            for window in windows(frames, views.windows, self.step)
        )


@dataclass(frozen=True)
class SamplerRun:
    """All that lasts for one sampler run. ``frames`` is the length of the whole clip."""

    frames: int
    settings: tuple[MotionSettings, ...]
    ranges: tuple[ActiveRange | None, ...]
    low_rank: tuple[tuple[RunLowRank, ...], ...]
    windowed: WindowedRun | None = None

    def call(self, timestep: torch.Tensor, window: Window | None, views: tuple[View, ...] = ()) -> MotionCall:
        """The inputs of the motion models for a denoiser call at sigma ``timestep[0]`` with the frames ``window``."""
        # The sigma lives on the GPU and reading it waits for the GPU: only done if a percent range or schedule asks.
        scheduled = any(change.schedule for changes in self.low_rank for change in changes)
        sigma = timestep[0].item() if scheduled or any(self.ranges) else None
        motion = []
        for settings, r, low_rank in zip(self.settings, self.ranges, self.low_rank, strict=True):
            # one frame has no motion: the modules would only disturb it
            in_range = self.frames > 1 and (r is None or r.end_sigma <= sigma <= r.start_sigma)
            inputs = replace(settings.inputs(in_range), views=views)
            if low_rank and in_range:
                inputs = replace(inputs, low_rank=merged(change.at(sigma, window) for change in low_rank))
            motion.append(inputs)
        return MotionCall(tuple(motion))

    def options(
        self, options: dict, timestep: torch.Tensor, window: Window | None, views: tuple[View, ...] = ()
    ) -> dict:
        """transformer_options for a denoiser call with the frames ``window`` (None: all)."""
        frames = {
            "full_length": self.frames,
            "context_length": None if window is None else len(window),
            "sub_idxs": window,
        }
        return {**options, OPTIONS_KEY: self.call(timestep, window, views), FRAMES_KEY: frames}


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
    """OUTER_SAMPLE wrapper: the life of one run."""
    patcher = executor.class_obj.model_patcher
    animation: Animation = patcher.get_attachment(MODEL_KEY)
    motion_models = animation.motion_models
    options = executor.class_obj.model_options["transformer_options"]
    frames = latent_image.shape[0]
    model_sampling = patcher.get_model_object("model_sampling")
    windowed = WindowedRun.of(animation.contexts, frames, model_sampling, sigmas, seed or 0)
    _check_length(frames, motion_models, windowed, executor.class_obj.model_options.get("context_handler"))
    run = SamplerRun(
        frames=frames,
        settings=tuple(m.settings for m in motion_models),
        ranges=tuple(ActiveRange.of(m.settings, model_sampling) for m in motion_models),
        low_rank=tuple(
            tuple(RunLowRank.of(change, model_sampling, frames, patcher.load_device) for change in m.settings.low_rank)
            for m in motion_models
        ),
        windowed=windowed,
    )
    keep_on(model_sampling, patcher.load_device)
    # these options are a copy that the host made for this run
    options[OPTIONS_KEY] = run
    if windowed is not None:
        callback = _counting(windowed, callback)
    try:
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs)
    finally:
        if windowed is not None:
            windowed.controls.restore()
        # The host leaves models injected until another takes their place. Then a LoRA node looking for layers by name
        # would miss those behind an injected one, so the UNet is handed back as it was.
        for loaded in (patcher, *patcher.get_additional_models_with_key("multigpu")):
            loaded.eject_model()


def _counting(windowed: WindowedRun, callback: Callable | None) -> Callable:
    """The sampler's callback, which also tells the windows which step comes next."""

    def counted(step, *args):
        if callback is not None:
            callback(step, *args)
        windowed.step = step + 1

    return counted


def prepare_sampling(executor, model, noise_shape, conds, *args, **kwargs):
    """PREPARE_SAMPLING wrapper: the host reckons memory with as many frames as the UNet sees at once."""
    animation: Animation = model.get_attachment(MODEL_KEY)
    frames = noise_shape[0]
    if animation.contexts and animation.contexts[0].cut(frames):
        noise_shape = [animation.contexts[0].frames_at_once(frames), *noise_shape[1:]]
    return executor(model, noise_shape, conds, *args, **kwargs)


def calc_cond_batch(executor, model, conds, x_in, timestep, model_options):
    """CALC_COND_BATCH wrapper: where every guider passes, for each denoiser call (and each window of the host's)."""
    options = model_options["transformer_options"]
    run = options.get(OPTIONS_KEY)
    if run is None:
        # evaluated outside a sampler run: the modules work with their defaults
        return executor(model, conds, x_in, timestep, model_options)
    if run.windowed is not None and len(x_in) == run.frames:
        return _windowed(executor, run, model, conds, x_in, timestep, model_options)
    window = _host_window(options, len(x_in))
    options = run.options(options, timestep, window)
    return executor(model, conds, x_in, timestep, {**model_options, "transformer_options": options})


def _windowed(executor, run: SamplerRun, model, conds, x_in, timestep, model_options):
    windowed = run.windowed

    def sigma() -> float:
        return float(timestep[0])

    def evaluate(conds, x, timestep, window):
        options = run.options(
            model_options["transformer_options"], timestep, window, windowed.views(context, len(window), sigma)
        )
        return executor(model, conds, x, timestep, {**model_options, "transformer_options": options})

    context = windowed.context(sigma)
    fuse_context = windowed.fuse_context(run.frames, context.windows.overlap, context.fuse, sigma)
    cut = windowed.windows(context)
    return in_windows(evaluate, conds, x_in, timestep, cut, context.fuse, fuse_context, windowed.controls)


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


def _check_length(frames: int, motion_models: MotionModels, windowed: WindowedRun | None, context_handler) -> None:
    if not motion_models:
        return
    if frames == 1:
        logging.warning(
            "[AnimateDiff] The latent batch holds a single frame, so the motion model is bypassed. "
            "For an animation set batch_size of the empty latent to the number of frames, for example 16."
        )
    length, cut_by = frames, ""
    if windowed is not None:
        length = windowed.contexts[0].frames_attending(frames)
        cut_by = "Lower context_length (or view_length) of the Context Options node."
    elif context_handler is not None and context_handler.dim == 0 and frames > context_handler.context_length:
        length = context_handler.context_length + bool(getattr(context_handler, "causal_window_fix", False))
        cut_by = (
            "Lower context_length of the Context Windows node; with causal_window_fix the host adds one frame to it."
        )
    for motion_model in motion_models:
        most = motion_model.spec.max_frames
        if length <= most:
            continue
        if cut_by:
            raise ValueError(
                f"A context window of {length} frames is longer than the {most} frames that the motion model "
                f"'{motion_model.spec.name}' can handle at once. {cut_by}"
            )
        raise ValueError(
            f"The clip has {frames} frames, but the motion model '{motion_model.spec.name}' handles at most {most} at once. "
            "Connect a Context Options node to context_options (Looped Uniform or Standard Static, with a context_length of "
            f"{min(16, most)}); or lower batch_size."
        )
