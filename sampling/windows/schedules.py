"""Context windows: which frames of a long clip go through the motion model together, at each sampling step.

A window is a list of frame indices. The schedules are those that AnimateDiff workflows name; "uniform" ones shift their
windows from step to step, so that seams do not stay in one place.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from ...host.told import Told

Window = list[int]

STANDARD_STATIC = "standard_static"
STANDARD_UNIFORM = "standard_uniform"
LOOPED_UNIFORM = "looped_uniform"
SEAMLESS = "seamless"
ROUND_THE_CLIP = 8  # windows in a step
BATCHED = "batched"
ALL_FRAMES = "view_as_context"


class WindowError(Told, ValueError):
    """Window options that make no windows; the message says what to change."""


@dataclass(frozen=True)
class WindowOptions:
    """``stride`` is the number of strides, 1, 2, 4, …, that a uniform schedule uses besides each other."""

    schedule: str
    length: int
    overlap: int = 0
    stride: int = 1
    closed_loop: bool = False

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise WindowError(f"There is no context schedule '{self.schedule}'. Choose one of {', '.join(SCHEDULES)}.")


def windows(frames: int, options: WindowOptions, step: int = 0) -> list[Window]:
    """The windows of a clip of ``frames`` frames at sampling step ``step``.

    Every frame is in at least one window, and every index is in range. An index may occur twice in a window of a
    looped schedule with strides. Raises WindowError if such windows would never get to the end of the clip.
    """
    return SCHEDULES[options.schedule](frames, options, step)


def _check_length(options: WindowOptions) -> None:
    if options.length < 1:
        raise WindowError(
            f"Windows of {options.length} frames hold nothing. Set context_length (of views: view_length) to 1 or more; 16 "
            "suits most motion models."
        )


def _check(options: WindowOptions) -> None:
    _check_length(options)
    length, overlap = options.length, options.overlap
    if overlap < 0:
        raise WindowError(
            f"The overlap is {overlap}, so frames between the windows would be left out. Set context_overlap (of views: "
            "view_overlap) to 0 or more."
        )
    if overlap >= length:
        raise WindowError(
            f"The overlap is {overlap}, but windows are {length} frames long: they would never move on. "
            "Lower context_overlap below context_length (view_overlap below view_length); a quarter of it is usual."
        )
    if options.stride < 1:
        raise WindowError(
            f"The stride is {options.stride}, which makes no windows. Set context_stride (of views: view_stride) to 1 or more."
        )


def _static(frames: int, options: WindowOptions, step: int) -> list[Window]:
    """Windows at fixed places; the last one ends with the clip."""
    length = options.length
    if frames <= length:
        return [list(range(frames))]
    _check(options)
    starts = list(range(0, frames - length, options.length - options.overlap))
    return [list(range(start, start + length)) for start in (*starts, frames - length)]


def _batched(frames: int, options: WindowOptions, step: int) -> list[Window]:
    """One window behind the other, the last one as short as need be."""
    _check_length(options)
    return [list(range(start, min(start + options.length, frames))) for start in range(0, frames, options.length)]


def _all_frames(frames: int, options: WindowOptions, step: int) -> list[Window]:
    return [list(range(frames))]


def bit_reversed(step: int) -> float:
    """The van der Corput sequence in base 2: 0, 1/2, 1/4, 3/4, 1/8, …: evenly spread however far it goes."""
    return int(f"{step:064b}"[::-1], 2) / 2**64


def _looped(frames: int, options: WindowOptions, step: int) -> list[Window]:
    """Windows that run over the end of the clip into its beginning."""
    if frames < options.length:
        return [list(range(frames))]
    _check(options)
    length, overlap = options.length, options.overlap
    levels = min(options.stride, math.ceil(math.log2(frames / length)) + 1)
    shift = bit_reversed(step)
    pad = round(frames * shift)
    end = frames + pad - (0 if options.closed_loop else overlap)
    return [
        [(start + i * stride) % frames for i in range(length)]
        for stride in (2**level for level in range(levels))
        for start in range(int(shift * stride) + pad, end, length * stride - overlap)
    ]


def _seamless(frames: int, options: WindowOptions, step: int) -> list[Window]:
    """Windows of all frames that begin all over the clip and run over its end; of longer clips, looped windows.

    After Bi et al., "Mobius: Text to Seamless Looping Video Generation via Latent Shift" (arXiv 2502.20307), where the clip
    begins elsewhere at each step. Here all beginnings are blended in each, so that no place of the loop is another than the rest.
    """
    _check_length(options)
    if frames > options.length:
        return _looped(frames, options, step)
    shift = bit_reversed(step)
    firsts = dict.fromkeys(int(frames * (i + shift) / ROUND_THE_CLIP) for i in range(ROUND_THE_CLIP))
    return [[(first + i) % frames for i in range(frames)] for first in firsts]


def _uniform(frames: int, options: WindowOptions, step: int) -> list[Window]:
    """Looped windows with those that run over the end of the clip taken apart.

    Such a window is moved back to end with the clip, and the part that was at the beginning gets a window of its own.
    """
    if frames <= options.length:
        return [list(range(frames))]
    length = options.length
    open_loop = WindowOptions(LOOPED_UNIFORM, length, options.overlap, options.stride)
    looped = _looped(frames, open_loop, step)
    queue, kept = list(looped), []
    while queue:
        window = queue.pop(0)
        wrapped = next((b for a, b in pairwise(window) if b < a), None)
        if wrapped is not None:
            from_zero = [(index - window[0]) % frames for index in window]
            window = [index + frames - 1 - from_zero[-1] for index in from_zero]
            # the window that follows, or the very first one, may begin there already
            following = queue[0] if queue else (kept[0] if kept else window)
            if wrapped not in following:
                queue.insert(0, list(range(wrapped, wrapped + length)))
        if window not in kept:
            kept.append(window)
    return _complete(kept, frames, length)


def _complete(found: list[Window], frames: int, length: int) -> list[Window]:
    """``found`` without windows that leave the clip, and with windows for frames that no other has.

    Strides can be so long that a window does not fit into the clip wherever it begins.
    """
    kept = [window for window in found if min(window) >= 0 and max(window) < frames]
    covered = set().union(*kept) if kept else set()
    for frame in range(frames):
        if frame not in covered:
            start = min(frame, frames - length)
            kept.append(list(range(start, start + length)))
            covered.update(kept[-1])
    return kept


SCHEDULES: dict[str, Callable[[int, WindowOptions, int], list[Window]]] = {
    STANDARD_STATIC: _static,
    STANDARD_UNIFORM: _uniform,
    LOOPED_UNIFORM: _looped,
    SEAMLESS: _seamless,
    BATCHED: _batched,
    ALL_FRAMES: _all_frames,
}
