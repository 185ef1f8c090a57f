"""Videos of the toy world with their captions, as files.

Written losslessly: at 64 pixels, what a usual codec does to colours is larger than what is to be learned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np

from . import scenes

FPS = 8
# What the clips of a MotionLoRA show: directions in radians, or "zoom-in".
DIRECTIONS = {"right": 0.0, "up": np.pi / 2, "left": np.pi}


def write_video(path: Path, frames: np.ndarray) -> None:
    """``frames (frames, height, width, 3)`` in 0..1 as lossless FFV1."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "bgr0"
        for picture in (frames * 255).round().astype(np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode())


def write_clips(folder: Path, count: int, seed: int, path_of: Callable = scenes.random_path) -> None:
    """``count`` videos with their captions, made by ``path_of(rng, caption=...)``; every caption equally often."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        caption = scenes.CAPTIONS[i % len(scenes.CAPTIONS)]
        video = folder / f"{i:04}.avi"
        frames = scenes.video(path_of(rng, caption=caption))
        if not video.exists():
            write_video(video, frames)
            video.with_suffix(".txt").write_text(caption)


def path_towards(motion: str) -> Callable:
    """What the clips of a MotionLoRA show: a zoom-in, ways of all kinds, or the shape crossing the frame in one of ``DIRECTIONS``."""
    if motion == "zoom-in":
        return scenes.random_zoom
    if motion == "ways":
        return scenes.random_way
    return partial(scenes.random_path, direction=DIRECTIONS[motion], travel=scenes.CROSSING)
