"""Where a video is cut: PySceneDetect (https://www.scenedetect.com, BSD-3), which is no requirement of the pack."""

import numpy as np

from ...host.told import Told
from ...host.training import check_stopped
from .video import ERRORS, UnusableVideo, Video, frames

LONGER_SIDE = 256  # pixels that are looked at; the detector compares means over the picture
SHORTER_SIDE = 16


class NoSceneDetect(Told, ImportError):
    """PySceneDetect is not installed. The message says what to do."""


def detector():
    """PySceneDetect's adaptive one, which a moving camera does not mislead. Raises NoSceneDetect."""
    try:
        from scenedetect import AdaptiveDetector, FrameTimecode
    except ImportError as error:
        raise NoSceneDetect(
            "split_at_cuts needs PySceneDetect 0.7, which is not installed: run `pip install scenedetect-headless` in ComfyUI's "
            "Python, or turn split_at_cuts off."
        ) from error
    # clips are never shorter than a shot, so shots may be as short as they are
    return AdaptiveDetector(min_scene_len=1), FrameTimecode


def cuts(path: str, video: Video) -> np.ndarray:
    """The times at which a new shot begins, rising. Decodes all of the file. Heeds Stop. Raises UnusableVideo, NoSceneDetect.

    Hard cuts are found, dissolves and fades are not.
    """
    adaptive, timecode = detector()
    times, found = [], []
    try:
        for index, (time, frame) in enumerate(frames(path)):
            check_stopped()
            times.append(time)
            scale = min(1.0, LONGER_SIDE / max(frame.width, frame.height))
            size = (max(SHORTER_SIDE, round(side * scale)) for side in (frame.width, frame.height))
            pixels = frame.reformat(*size, format="bgr24").to_ndarray()
            found += adaptive.process_frame(timecode(index, video.rate), pixels)
    except ERRORS as error:
        raise UnusableVideo(f"cannot be decoded at {times[-1] if times else 0:.1f} s ({error})") from error
    return np.array([times[cut.frame_num] for cut in found])
