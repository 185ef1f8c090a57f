"""Videos as PyAV reads them: what is known of one before it is decoded, and the frames that are wanted of it.

Times are seconds on the file's own clock, which need not begin at 0.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image

from ...host.told import Told
from ...host.training import check_stopped

# What PyAV raises for files that are no video, or a broken one.
ERRORS = (FFmpegError, OSError, ValueError, EOFError, ArithmeticError)
# A playlist makes FFmpeg open other files and addresses. Whoever may upload a file may not read the machine with it.
ALONE = {"protocol_whitelist": "none"}
BUFFER = 1 << 20  # bytes that are read at a time
MOST_PIXELS = 8192 * 8192
NARROWEST = 8  # times as long as wide
MOST_FRAMES = 2_000_000  # more than 20 hours at 25 frames a second
TELLS_LENGTH = 0.9  # of what the header says has to be there
ALIKE = 0.1  # of a frame rate
REDUCING_GAP = (
    3.0  # Pillow's: from large pictures whole blocks of pixels are averaged first, which cannot be told from without
)
SEEK_FROM = 2.0  # seconds; what comes earlier is decoded from the beginning


class UnusableVideo(Told, ValueError):
    """A file that no clips can be made of. The message says why, as the end of a sentence about it."""


@dataclass(frozen=True)
class Video:
    """``times`` of all frames, rising; ``width`` and ``height`` as shown, in square pixels and turned upright.

    ``pixel_width`` is how wide a pixel is stored, with a height of 1.
    """

    times: np.ndarray
    width: int
    height: int
    pixel_width: float = 1.0

    @property
    def interval(self) -> float:
        """The usual time from one frame to the next."""
        return median(np.diff(self.times).tolist()) if len(self.times) > 1 else 1.0

    @property
    def rate(self) -> float:
        """Frames per second: the mean, since containers round times; the usual one if some frames stand much longer."""
        usual = 1 / self.interval
        mean = (len(self.times) - 1) / float(self.times[-1] - self.times[0]) if len(self.times) > 1 else usual
        return mean if abs(mean / usual - 1) < ALIKE else usual

    def frame_at(self, time: float) -> int:
        """The frame that is shown at ``time``. Containers round times, so one that comes a moment later is meant as well."""
        return max(0, bisect_right(self.times, time + self.interval / 2) - 1)


@contextmanager
def opened(path: str) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream. Raises UnusableVideo, and one of ERRORS."""
    with (
        open(path, "rb") as file,
        av.open(file, options=ALONE, metadata_errors="replace", buffer_size=BUFFER) as container,
    ):
        if not container.streams.video:
            raise UnusableVideo("has sound or text only, no pictures")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def probe(path: str) -> Video:
    """Read all of a file, and decode its first frame only. Heeds Stop. Raises UnusableVideo."""
    try:
        with opened(path) as (container, stream):
            return _probe(container, stream)
    except UnusableVideo:
        raise
    except ERRORS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnusableVideo(f"is broken, or no video that PyAV reads ({reason})") from error


def _probe(container, stream) -> Video:
    first, times, packets = None, [], 0
    for packet in container.demux(stream):
        check_stopped()
        if first is None:
            first = next(iter(packet.decode()), None)
            if first is not None and first.width * first.height > MOST_PIXELS:
                raise UnusableVideo(f"is {first.width} x {first.height} pixels, more than can be read")
        if packet.size:  # the last one is empty: it makes decoders give what they hold back
            packets += 1
            if not packet.is_discard:
                times.append(_seconds(packet, len(times), stream))
        if packets > MOST_FRAMES:
            raise UnusableVideo(f"has more than {MOST_FRAMES} frames. Cut it into parts")
    if first is None or not times:
        raise UnusableVideo("has no frame that can be decoded")
    pixel_width = _pixel_width(stream)
    width, height = first.width * pixel_width, float(first.height)
    if _quarter_turns(first) % 2:
        width, height = height, width
    if max(width, height) > NARROWEST * min(width, height):
        raise UnusableVideo(f"is {width:.0f} x {height:.0f} pixels, too narrow for a clip")
    video = Video(np.unique(np.array(times)), round(width), round(height), pixel_width)
    _check_length(container, stream, video, packets)
    return video


def _check_length(container, stream, video: Video, packets: int) -> None:
    """Raise UnusableVideo if the file ends before its header says so, as a download that was broken off does."""
    seconds = float(video.times[-1] - video.times[0]) + video.interval
    if stream.duration and stream.time_base:
        told = float(stream.duration * stream.time_base)
    elif container.duration and not container.streams.audio:
        told = container.duration / av.time_base
    else:
        told = 0.0
    # the last frame may stand as long as it likes
    if stream.frames and packets < TELLS_LENGTH * stream.frames:
        raise UnusableVideo(f"is cut off: {packets} of {stream.frames} frames are there. Copy or download it again")
    if not stream.frames and seconds < TELLS_LENGTH * told - 1:
        raise UnusableVideo(f"is cut off: {seconds:.1f} of {told:.1f} seconds are there. Copy or download it again")


def _seconds(thing, index: int, stream) -> float:
    """When a packet or frame is shown; raw streams tell nothing, so their frames are counted."""
    for stamp in (thing.pts, thing.dts):
        if stamp is not None:
            return float(stamp * stream.time_base)
    return index / float(stream.guessed_rate or stream.average_rate or 25)


def _pixel_width(stream) -> float:
    ratio = stream.sample_aspect_ratio
    return ratio.numerator / ratio.denominator if ratio and ratio.numerator > 0 else 1.0


def _quarter_turns(frame) -> int:
    """Counter-clockwise, from how the frame is stored to how it is shown (the display matrix)."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def pictures(
    path: str, times: Sequence[float], tolerance: float, pixel_width: float, width: int, height: int
) -> Iterator[np.ndarray]:
    """The frames at ``times``, which rise: ``(height, width, 3)`` uint8, covered by the middle of the frame.

    One frame is in memory at a time. A frame counts that comes up to ``tolerance`` seconds early. Heeds Stop. Raises
    UnusableVideo where decoding fails or the frames end.
    """
    done = 0
    try:
        for time, frame in _frames_from(path, times[0], tolerance):
            check_stopped()
            shown = None
            while done < len(times) and time >= times[done] - tolerance:
                if shown is None:
                    shown = picture(frame, pixel_width, width, height)
                yield shown
                done += 1
            if done == len(times):
                return
    except ERRORS as error:
        if isinstance(error, UnusableVideo):
            raise
        raise UnusableVideo(f"cannot be decoded at {times[done]:.1f} s ({error})") from error
    raise UnusableVideo(f"cannot be decoded at {times[done]:.1f} s (its frames end there)")


def frames(path: str) -> Iterator[tuple[float, Any]]:
    """All frames of a file with their times. Raises ERRORS."""
    with opened(path) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            yield _seconds(frame, index, stream), frame


def _frames_from(path: str, start: float, tolerance: float) -> Iterator[tuple[float, Any]]:
    """Frames with their times, some of them ahead of ``start``."""
    if start >= SEEK_FROM:
        with opened(path) as (container, stream):
            decoded: Iterator[tuple[float, Any]] = iter(())
            try:
                container.seek(int(start / stream.time_base), stream=stream)
                decoded = ((_seconds(frame, -1, stream), frame) for frame in container.decode(stream))
                first = next(decoded, None)
            except ERRORS:  # a container without an index
                first = None
            if first is not None and 0 <= first[0] <= start + tolerance:
                yield first
                yield from decoded
                return
    yield from frames(path)


def picture(frame, pixel_width: float, width: int, height: int) -> np.ndarray:
    """``(height, width, 3)`` uint8: the middle of the frame in the shape of the picture, scaled to it, and upright."""
    turns = _quarter_turns(frame)
    stored = (height, width) if turns % 2 else (width, height)
    scale = max(stored[0] / (frame.width * pixel_width), stored[1] / frame.height)
    part = (stored[0] / scale / pixel_width, stored[1] / scale)
    left, top = ((of - some) / 2 for of, some in zip((frame.width, frame.height), part, strict=True))
    box = (max(0.0, left), max(0.0, top), min(frame.width, left + part[0]), min(frame.height, top + part[1]))
    # not scaled by FFmpeg: on its fast way from YUV it makes pictures of some widths darker than of others
    pixels = Image.fromarray(frame.to_ndarray(format="rgb24"))
    scaled = pixels.resize(stored, Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP)
    return np.ascontiguousarray(np.rot90(np.asarray(scaled), turns))
