"""The two worlds: plain scenes, on which motion is measured, and landscapes, which are larger and nicer to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import landscapes, scenes


@dataclass(frozen=True)
class World:
    """What is in it, and what its files are called: in weights/ with ``prefix`` before them, among ComfyUI's models with ``title``.

    ``cfg``: the guidance that its clips are sampled with. Shapes of landscapes are bent by more.
    """

    prefix: str
    title: str
    captions: tuple[str, ...]
    size: int
    frames: int
    video: Callable[[list], np.ndarray]  # of what is to be seen in each frame, (frames, height, width, 3)
    cfg: float


SCENES = World("", "toyworld", scenes.CAPTIONS, scenes.SIZE, scenes.FRAMES, scenes.video, cfg=3.0)
LANDSCAPES = World(
    "landscapes-",
    "toyworld-landscapes",
    landscapes.CAPTIONS,
    landscapes.SIZE,
    landscapes.FRAMES,
    landscapes.video,
    cfg=1.8,
)
