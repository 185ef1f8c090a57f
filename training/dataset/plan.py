"""Which clips are made of which video: where they begin, how fast they are, what size they get. Nothing is decoded here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from .files import VideoFile
from .video import UnusableVideo, Video

MOST_CLIPS = 50_000
BUCKET_STEP, SMALL_STEP = 64, 16  # pixels; the second where pictures are smaller than a bucket step allows
SMALL = 256
WIDEST = 2.0  # aspect ratio of a bucket
LATENT = 8  # pixels of a side that make one of the latent


@dataclass(frozen=True)
class ClipSettings:
    """What a clip is: ``frames`` pictures ``width`` x ``height``, in ``buckets`` of other aspect ratios or not.

    A video is taken at ``frame_rate`` frames per second (0: at its own), and of these each ``stride``-th is. ``most_clips``
    are made of each video, spread evenly over it (0: as many as fit). ``split_at_cuts``: none goes across a cut.
    """

    width: int
    height: int
    buckets: bool
    frames: int
    frame_rate: float
    stride: int
    most_clips: int
    split_at_cuts: bool

    def step(self, video: Video) -> float:
        """Seconds from one frame of a clip to the next."""
        return self.stride / (self.frame_rate or video.rate)

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of all buckets, in multiples of 8; of the same area or a little less."""
        width, height = (max(LATENT, side - side % LATENT) for side in (self.width, self.height))
        if not self.buckets:
            return ((width, height),)
        step = BUCKET_STEP if min(width, height) >= SMALL else SMALL_STEP
        others = (
            (w, width * height // w // step * step) for w in range(step, math.isqrt(width * height) * 2 + 1, step)
        )
        return (
            (width, height),
            *((w, h) for w, h in others if h and 1 / WIDEST <= w / h <= WIDEST and (w, h) != (width, height)),
        )

    def size(self, video: Video) -> tuple[int, int]:
        """The bucket whose aspect ratio is nearest to the video's, and of these the largest."""
        aspect = math.log(video.width / video.height)
        return min(
            self.sizes, key=lambda size: (round(abs(math.log(size[0] / size[1]) - aspect), 6), -size[0] * size[1])
        )


@dataclass(frozen=True)
class Clip:
    """The frames of ``file`` at ``times``, as pictures of ``size`` (width, height)."""

    file: VideoFile
    times: tuple[float, ...]
    tolerance: float
    pixel_width: float
    size: tuple[int, int]


def clips_of(file: VideoFile, video: Video, cuts: Sequence[float] | np.ndarray, settings: ClipSettings) -> list[Clip]:
    """The clips of one video, in the order of their frames. ``cuts``: where new shots begin. Raises UnusableVideo if none fits."""
    step = settings.step(video)
    # a frame is taken where it is shown, so what is left of the last one counts
    edges = [float(video.times[0]), *(float(cut) for cut in cuts), float(video.times[-1]) + video.interval]
    rounding = video.interval / 100
    starts, longest = [], 0
    for begin, end in pairwise(edges):
        fitting = max(0, math.ceil((end - begin - rounding) / step))
        longest = max(longest, fitting)
        last = int(np.searchsorted(video.times, end - rounding)) - 1
        fit = min(fitting // settings.frames, MOST_CLIPS)
        starts += [(begin + number * settings.frames * step, last) for number in range(fit)]
    if not starts:
        where = "its longest shot has" if len(cuts) else "it has"
        raise UnusableVideo(
            f"is too short: {where} {longest} of the {settings.frames} frames of a clip. Lower frames or stride, or raise frame_rate"
        )
    if settings.most_clips and len(starts) > settings.most_clips:
        starts = [
            starts[int((number + 0.5) * len(starts) / settings.most_clips)] for number in range(settings.most_clips)
        ]
    size = settings.size(video)
    found = []
    for start, last in starts:
        times = _shown(video, [start + number * step for number in range(settings.frames)], last)
        found.append(Clip(file, times, video.interval / 2, video.pixel_width, size))
    return found


def _shown(video: Video, times: Sequence[float], last: int) -> tuple[float, ...]:
    """When the frames came up that are shown at ``times``, none of them behind ``last``, where the shot ends."""
    return tuple(float(video.times[min(video.frame_at(time), last)]) for time in times)
