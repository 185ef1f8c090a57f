"""Camera Path on the toy world: whether the picture moves as the camera says, by noise alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from . import measure, scenes
from .claim import Claim
from .prompts import TRAINED, Clip

FIRST_SEED = 985_000  # these are used for nothing else
# As users write them into Camera Path. What is seen goes the other way than a camera that pans.
PANS = (("0: 0,0  15: 0.3,0", np.pi), ("0: 0,0  15: -0.3,0", 0.0))
ZOOM = "0: 0,0,1  15: 0,0,1.6"
WITHIN = 45  # degrees
Sample = Callable[[list[Clip]], list[np.ndarray]]


def camera_claims(sample: Sample, count: int) -> list[Claim]:
    """Clips of a camera that pans to the right, to the left and comes nearer, a third each, with the motion model as it is and with
    the MotionLoRA that was trained along the paths of things; and without a camera.
    """
    each = max(1, count // 3)
    captions = [scenes.CAPTIONS[i % len(scenes.CAPTIONS)] for i in range(each)]
    plain = [Clip(caption, FIRST_SEED + i) for i, caption in enumerate(captions)]

    def tracks(changes: dict) -> list[measure.Track | None]:
        return [measure.follow(frames) for frames in sample([replace(clip, **changes) for clip in plain])]

    def rows(name: str, camera: bool, **changes) -> list[Claim]:
        moves = (*(move for move, _ in PANS), ZOOM)
        *pans, zoom = (tracks({**changes, "camera": move} if camera else changes) for move in moves)
        errors = [
            180.0 if track is None else track.angle_to(direction)
            for found, (_, direction) in zip(pans, PANS, strict=True)
            for track in found
        ]
        growth = float(np.mean([track.growth for track in zoom if track is not None]))
        within = 100 * float((np.array(errors) < WITHIN).mean())
        return [
            Claim("", f"{name}: pans within {WITHIN} degrees, %", within),
            Claim("", f"{name}: growth by a zoom of 1.6", growth),
        ]

    first, *others = rows("Camera Path", True)
    return [
        replace(first, claim="the picture moves with the camera"),
        *others,
        *rows("the same with the MotionLoRA that follows paths", True, **TRAINED),
        *rows("without it", False),
    ]
