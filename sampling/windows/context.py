"""Context options: how a clip longer than the motion model can handle is cut into windows, as a MODEL carries it."""

from dataclasses import dataclass, replace

from ..context_extras.extras import ContextExtras
from ..noise.initial import NoiseWindow
from .one_motion import OneMotionOptions
from .schedules import ALL_FRAMES, SEAMLESS, WindowOptions, windows


@dataclass(frozen=True)
class ViewOptions:
    """Windows inside temporal attention: the frames of a view attend to each other only, and views are blended.

    ``shared``: behind each attention, and all else is computed once for each frame; else behind all attentions of a module.
    """

    windows: WindowOptions
    fuse: str
    use_on_equal_length: bool = False
    shared: bool = False
    one_motion: OneMotionOptions | None = None

    def cuts(self, frames: int) -> bool:
        """Whether a call of ``frames`` frames is divided into views."""
        length = self.windows.length
        if self.windows.schedule == SEAMLESS:
            return True
        return length < frames or (length == frames and self.use_on_equal_length)


@dataclass(frozen=True)
class Context:
    """One way of cutting, from ``start_percent`` of the sampling schedule on, for ``guarantee_steps`` steps at least.

    ``extras`` act in the whole chain (``extras_of``), whichever context is in force. ``chunk``: how many frames spatial layers
    see at a time where the UNet gets the whole clip; 0 goes by the memory that is free. ``skips_in_ram``: where the UNet's skip
    connections are kept then. ``at_once``: how many windows go through the UNet together (``at_once.py``).
    """

    windows: WindowOptions
    fuse: str
    use_on_equal_length: bool = False
    start_percent: float = 0.0
    guarantee_steps: int = 1
    views: ViewOptions | None = None
    chunk: int = 0
    skips_in_ram: bool = False
    extras: ContextExtras | None = None
    at_once: int = 1

    def cuts(self, frames: int) -> bool:
        """Whether a clip of ``frames`` frames is divided into windows."""
        if self.whole:
            return True
        if not self.windows.length:
            return False
        return self.windows.length < frames or (self.windows.length == frames and self.use_on_equal_length)

    @property
    def whole(self) -> bool:
        """Whether the UNet gets all frames of a clip together."""
        return self.windows.schedule == ALL_FRAMES

    def frames_at_once(self, frames: int) -> int:
        """How many frames the UNet sees as one clip."""
        return frames if self.whole else min(frames, self.windows.length)

    def frames_in_batch(self, frames: int) -> int:
        """How many frames of a cond go through the UNet in one call. What AUTOMATIC adds fits into what is free then."""
        together = min(self.at_once, len(windows(frames, self.windows))) if self.at_once > 1 else 1
        return together * self.frames_at_once(frames)

    def frames_attending(self, frames: int) -> int:
        """How many frames attend to each other, which is what a motion model's position table has to hold."""
        at_once = self.frames_at_once(frames)
        return min(self.views.windows.length, at_once) if self.views and self.views.cuts(at_once) else at_once

    def shared(self, frames: int) -> WindowOptions | None:
        """The windows, if a clip of ``frames`` frames is divided into shared ones, all in one UNet call."""
        views = self.views
        return views.windows if self.whole and views is not None and views.shared and views.cuts(frames) else None

    def check(self, frames: int) -> None:
        """Raise WindowError, before a model runs, if a clip of ``frames`` frames cannot be cut like this."""
        windows(frames, self.windows)
        at_once = self.frames_at_once(frames)
        if self.views and self.views.cuts(at_once):
            windows(at_once, self.views.windows)


Contexts = tuple[Context, ...]


def with_extras(contexts: Contexts, extras: ContextExtras) -> Contexts:
    """A chain with ``extras`` in place of those that it has; contexts that are added to it later do not change that."""
    return tuple(replace(context, extras=extras) for context in contexts)


def with_windows_at_once(contexts: Contexts, at_once: int) -> Contexts:
    return tuple(replace(context, at_once=at_once) for context in contexts)


def extras_of(contexts: Contexts) -> ContextExtras:
    return next((context.extras for context in contexts if context.extras is not None), ContextExtras())


def cut_by(contexts: Contexts, frames: int) -> Context | None:
    """The first context if it cuts a clip of ``frames`` frames into windows; it decides for those that follow."""
    return contexts[0] if contexts and contexts[0].cuts(frames) else None


def noise_window(contexts: Contexts, frames: int) -> NoiseWindow | None:
    """What repeated and shuffled noise goes by: the views of the first context, or its windows."""
    context = cut_by(contexts, frames)
    if context is None:
        return None
    windows = context.views.windows if context.views else context.windows
    return NoiseWindow(windows.length or frames, windows.overlap, windows.closed_loop)
