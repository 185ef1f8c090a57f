"""Prompt travel on the toy world: whether each frame has the colour that its prompt names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from . import measure, scenes
from .claim import Claim
from .prompts import Clip

FIRST_SEED = 970_000  # these are used for nothing else
FRAMES = 32
FROM, TO = "red", "blue"
APART = 5.0
Sample = Callable[[list[Clip]], list[np.ndarray]]


def prompts(shape: str) -> str:
    """As users write them into Prompt Scheduling: the first half is of one colour, the second of another."""
    return f'"0:": "a {FROM} {shape}", "{FRAMES // 2}": "a {TO} {shape}"'


def obeyed(frames: np.ndarray) -> np.ndarray:
    """Of each frame, whether the shape in it has the colour of its prompt."""
    colours = [FROM] * (FRAMES // 2) + [TO] * (FRAMES - FRAMES // 2)
    seen = [measure.look(frame) for frame in frames]
    return np.array([one is not None and one.colour == colour for one, colour in zip(seen, colours, strict=True)])


def leap(frames: np.ndarray) -> float:
    """How far the shape is from its place where the prompt changes, in pixels; NaN where it is not seen."""
    return float(measure.steps_around(frames)[FRAMES // 2 - 1])


def travel_claims(sample: Sample, count: int) -> list[Claim]:
    """Prompts that are kept apart, against those that are not, in shared windows; and in static ones."""
    shapes = [scenes.SHAPES[i % len(scenes.SHAPES)] for i in range(count)]
    plain = [
        Clip(f"a {FROM} {shape}", FIRST_SEED + i, frames=FRAMES, windows="shared", travel=prompts(shape))
        for i, shape in enumerate(shapes)
    ]

    def measured(clips: list[Clip]) -> tuple[float, float, float, float]:
        """Frames of their colour, %; those of their shape, %; jump per frame, and where the prompt changes, pixels."""
        frames = sample(clips)
        shape = [
            np.mean([(seen := measure.look(frame)) is not None and seen.shape == shape for frame in clip])
            for clip, shape in zip(frames, shapes, strict=True)
        ]
        jumps = [track.jump for track in map(measure.follow, frames) if track is not None]
        colour = 100 * float(np.mean([obeyed(clip) for clip in frames]))
        leaps = float(np.nanmean([leap(clip) for clip in frames]))
        return colour, 100 * float(np.mean(shape)), float(np.mean(jumps)), leaps

    today, today_shape, today_jump, today_leap = measured(plain)
    apart, shape, jump, leaps = measured([replace(clip, keep_apart=APART) for clip in plain])
    static = [replace(clip, windows="static") for clip in plain]
    static_today, *_ = measured(static)
    static_apart, *_ = measured([replace(clip, keep_apart=APART) for clip in static])
    name = f"keep_apart {APART:g}"
    return [
        # no `must` of 10 points over today: today leaves no room for them
        Claim("prompt travel obeys", f"{name}: frames with their colour, %", apart, target=95),
        Claim("", "the same without it", today),
        Claim("", f"{name}: frames of the right shape, %", shape),
        Claim("", "the same without it", today_shape),
        Claim("", f"{name}: jump per frame, pixels", jump, more=False),
        Claim("", "the same without it", today_jump),
        Claim("", f"{name}: from the last frame of one prompt to the first of the next, pixels", leaps, more=False),
        Claim("", "the same without it", today_leap),
        Claim("", f"static windows, {name}: frames with their colour, %", static_apart),
        Claim("", "the same without it", static_today),
    ]
