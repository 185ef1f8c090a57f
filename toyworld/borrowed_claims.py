"""Motion that is borrowed from a video, on the toy world: Motion Clone and Motion Path from Clip, side by side on the same pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import measure, scenes
from .claim import Claim
from .prompts import TRAINED, Clip
from .videos import write_video

FIRST_SEED = 980_000  # these are used for nothing else
OTHER = 5  # captions on: another shape and another colour
WITHIN = 45  # degrees


def borrowed_claims(sample, count: int) -> list[Claim]:
    """Clips of one thing with the motion of videos of another one, which go in directions all around.

    Motion Clone (MotionClone, arXiv 2406.05338) guides by the attention of the video; Motion Path from Clip knows of it where what
    moves is in each frame, and Follow Path leads there.
    """
    plain, ways = [], []
    for i in range(count):
        caption, other = (scenes.CAPTIONS[(i + further) % len(scenes.CAPTIONS)] for further in (0, OTHER))
        plain.append(Clip(caption, FIRST_SEED + i))
        rng = np.random.default_rng(FIRST_SEED + i)
        ways.append(scenes.random_path(rng, 2 * np.pi * i / count, other, scenes.CROSSING))
    names = [f"borrowed-{i}-of-{count}.avi" for i in range(count)]
    sample.videos.mkdir(parents=True, exist_ok=True)
    for name, way in zip(names, ways, strict=True):
        write_video(sample.videos / name, scenes.video(way))

    def rows(
        name: str, clips: list[Clip], claim: str = "", must: float | None = None, target: float | None = None
    ) -> list[Claim]:
        frames = sample(clips)
        tracks = [measure.follow(one) for one in frames]
        errors = np.array([180.0 if t is None else t.angle_to(2 * np.pi * i / count) for i, t in enumerate(tracks)])
        places = [np.array([(scene.x, scene.y) for scene in way]) for way in ways]
        away = [measure.distances(f, p) for f, p in zip(frames, places, strict=True)]
        content = [measure.content_matches(f, c.caption) for f, c in zip(frames, clips, strict=True)]
        within = 100 * float((errors < WITHIN).mean())
        return [
            Claim(claim, f"{name}: clips within {WITHIN} degrees of the video, %", within, must, target),
            Claim("", f"{name}: mean error of direction, degrees", float(errors.mean()), more=False),
            Claim("", f"{name}: distance from where it is in the video, pixels", float(np.nanmean(away)), more=False),
            Claim("", f"{name}: frames of the right shape and colour, %", 100 * float(np.mean(content))),
        ]

    videos = list(zip(plain, names, strict=True))
    followed = [replace(clip, followed=name) for clip, name in videos]
    return [
        *rows("Motion Clone", [replace(clip, cloned=name) for clip, name in videos], "a video sets the motion", 75, 90),
        *rows("Motion Path from Clip", followed),
        *rows("the same with the MotionLoRA", [replace(clip, **TRAINED) for clip in followed]),
        *rows("neither", plain),
    ]
