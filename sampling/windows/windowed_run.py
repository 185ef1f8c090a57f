"""The windows of one sampler run: which context is in force, which windows a step has, how their frames are weighted."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ...motion_models.network.call import View
from ..selection import Selection
from .conditioning import WindowedControls
from .context import Context, Contexts
from .fuse import FuseContext, depends_on_sigma, fuse_weights
from .schedules import Window, windows


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
    def of(cls, contexts: Contexts, frames: int, model_sampling, first_sigma: float, seed: int) -> "WindowedRun":
        starts = [float(model_sampling.percent_to_sigma(context.start_percent)) for context in contexts]
        steps = [context.guarantee_steps for context in contexts]
        selection = Selection(starts, steps, first_sigma)
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
