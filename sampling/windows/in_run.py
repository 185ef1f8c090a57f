"""Context options in a run: each denoiser call window by window, and the predictions blended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import torch
from comfy.patcher_extension import WrappersMP

from ...host.memory import rows_instead_of
from ...motion_models.network.frame_chunks import kept_bytes
from ...motion_models.network.views import OneMotion, View, Views
from .. import advanced_controlnet
from ..animate import feature_of
from ..context_extras.extra import InPass
from ..feature import Call, Denoise, Feature, Pass, Predictions, Run, Step
from ..keyframes import ActiveRange, InForce, start_sigmas
from ..motion.feature import Motion
from ..run import MODEL_KEY
from . import at_once, other_packs
from .conditioning import WindowedControls, controls_of_window, warn_about_lengths
from .context import Context, Contexts, ViewOptions, cut_by, extras_of
from .fuse import FuseContext, depends_on_sigma, fuse_weights
from .schedules import Window, windows
from .windowed import in_windows


@dataclass
class WindowsInRun:
    """The windows of one pass: which context is in force, which windows a step has, how their frames are weighted."""

    contexts: Contexts
    frames: int
    in_force: InForce
    generator: torch.Generator
    controls: WindowedControls
    extras: tuple[InPass, ...] = ()
    one_by_one: bool = False
    # of the one motion of a context, by the place of the context in the chain
    one_motion: tuple[ActiveRange | None, ...] = ()

    @classmethod
    def of(
        cls,
        contexts: Contexts,
        frames: int,
        model_sampling,
        first_sigma: float,
        seed: int,
        controls: WindowedControls | None = None,
        extras: tuple[InPass, ...] = (),
        one_by_one: bool = False,
    ) -> "WindowsInRun":
        in_force = InForce(contexts, start_sigmas(contexts, model_sampling), first_sigma)
        generator = torch.Generator().manual_seed(seed)
        ranges = tuple(_range_of(context, model_sampling) for context in contexts)
        return cls(contexts, frames, in_force, generator, controls or WindowedControls(), extras, one_by_one, ranges)

    def context(self, step: Step) -> Context:
        return self.contexts[self.in_force.at(step)]

    def windows(self, context: Context, step: Step) -> list[Window]:
        return windows(self.frames, context.windows, step.index)

    def fuse_context(self, frames: int, overlap: int, fuse: str, step: Step) -> FuseContext:
        return FuseContext(frames, overlap, step.sigma if depends_on_sigma(fuse) else 0.0, self.generator)

    def views(self, context: Context, frames: int, step: Step) -> Views | None:
        """The views of a call of ``frames`` frames; None if it is not divided."""
        options = context.views
        if options is None or not options.cuts(frames):
            return None
        fuse_context = self.fuse_context(frames, options.windows.overlap, options.fuse, step)
        each = tuple(
            View(window, fuse_weights(options.fuse, window, fuse_context))
            for window in windows(frames, options.windows, step.index)
        )
        return Views(each, options.shared, self._one_motion(options, frames, step))

    def _one_motion(self, options: ViewOptions, frames: int, step: Step) -> OneMotion | None:
        one, active = options.one_motion, self.one_motion[max(0, self.in_force.index)]
        if one is None or one.strength == 0.0 or (active is not None and not active.holds(step)):
            return None
        return one.in_call(frames, options.windows.length, options.windows.closed_loop, step.index)

    def around_call(self, call: Call, then: Denoise) -> Predictions:
        if call.frames != self.frames:
            return then(call)  # the host's own windows, or a part that another pack cut out

        context = self.context(call.step)
        cut = self.windows(context, call.step)
        shared = context.shared(self.frames)
        of_extras = cut if shared is None else windows(self.frames, shared, call.step.index)
        in_call = (in_pass.in_call(call, of_extras, shared is not None) for in_pass in self.extras)
        extras = [extra for extra in in_call if extra is not None]
        numbers = count()
        # extras look at single windows
        alone = self.one_by_one or bool(extras)
        together = 1 if alone else at_once.windows_at_once(context.at_once, call, cut)

        def evaluate(conds, x, timestep, of_call: list[Window]) -> Predictions:
            number, go_on = next(numbers), then
            for extra in reversed(extras):
                go_on = partial(extra.around_window, number, then=go_on)
            views = self.views(context, len(of_call[0]), call.step)
            window = [frame for one in of_call for frame in one]
            chunk = context.chunk if context.whole else None
            asked = replace(call, conds=conds, x=x, timestep=timestep, window=window, windows=len(of_call))
            return go_on(replace(asked, views=views, chunk=chunk, skips_in_ram=context.skips_in_ram))

        fuse_context = self.fuse_context(self.frames, context.windows.overlap, context.fuse, call.step)
        try:
            predictions = in_windows(
                evaluate, call.conds, call.x, call.timestep, cut, context.fuse, fuse_context, self.controls, together
            )
            for extra in extras:
                predictions = extra.blended(predictions)
            return predictions
        finally:
            for extra in extras:
                extra.end()


def _range_of(context: Context, model_sampling) -> ActiveRange | None:
    one = context.views and context.views.one_motion
    return None if one is None else ActiveRange.of(one, model_sampling)


class HostWindows:
    """The host's own Context Windows, which cut all of the conditioning but the pictures of ControlNets and T2I-Adapters."""

    def __init__(self, controls: WindowedControls):
        self.controls = controls
        self.step = 0

    def around_call(self, call: Call, then: Denoise) -> Predictions:
        frames = call.run.frames
        if call.window is None or call.frames == frames:
            return then(call)
        if call.step.index != self.step:
            self.step = call.step.index
            self.controls.next_call()
        return then(replace(call, conds=controls_of_window(call.conds, call.window, frames, self.controls)))


@dataclass(frozen=True, eq=False)
class Windows(Feature):
    """The context options of a MODEL; none leave clips whole."""

    contexts: Contexts = ()

    def attach(self, model) -> None:
        advanced_controlnet.attach(model, self.contexts, extras_of(self.contexts))
        if self.contexts:
            wrapper = partial(_prepare_sampling, self.contexts)
            model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, MODEL_KEY, wrapper)

    def detach(self, model) -> None:
        advanced_controlnet.detach(model)
        model.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, MODEL_KEY)

    def check(self, run: Run) -> None:
        cut = cut_by(self.contexts, run.frames) is not None
        if cut:
            for context in self.contexts:
                context.check(run.frames)
            other_packs.check(run)
            at_once.tell(run, self.contexts)
            for extra in extras_of(self.contexts).extras():
                extra.check(run)
        warn_about_lengths(run.guider.conds, run.frames, windowed=cut)

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        controls = WindowedControls()
        start = start.around_each_call(HostWindows(controls).around_call)
        try:
            if cut_by(self.contexts, run.frames) is None:
                return then(start)
            extras = tuple(extra.in_pass(run) for extra in extras_of(self.contexts).extras())
            in_run = WindowsInRun.of(
                self.contexts,
                run.frames,
                run.model_sampling,
                run.first_sigma,
                run.seed,
                controls,
                extras,
                at_once.one_by_one(run, self.contexts) is not None,
            )
            return then(
                start.around_each_call(in_run.around_call).around_each_call(other_packs.OneCacheEach().around_call)
            )
        finally:
            controls.restore()


def _prepare_sampling(contexts: Contexts, executor, model, noise_shape, conds, *args, **kwargs):
    """PREPARE_SAMPLING wrapper: the host reckons memory with as many frames as the UNet sees at once."""
    if cut_by(contexts, noise_shape[0]) is not None:
        # loaded models stay where they are when the next context comes into force
        frames = max(_frames_to_reckon_with(context, model, noise_shape) for context in contexts)
        noise_shape = [frames, *noise_shape[1:]]
    return executor(model, noise_shape, conds, *args, **kwargs)


def _frames_to_reckon_with(context: Context, model, noise_shape: Sequence[int]) -> int:
    frames = noise_shape[0]
    motion = feature_of(model, Motion)
    if not context.whole or motion is None or not motion.takes_chunks(model.model_options):
        return context.frames_in_batch(frames)
    # what is free beside that is used for larger chunks
    chunk = context.chunk or context.frames_attending(frames)
    return rows_instead_of(model.model, partial(kept_bytes, model.model.diffusion_model), noise_shape, chunk)
