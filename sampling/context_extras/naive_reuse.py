"""NaiveReuse: early in the sampling, every part of the clip is pulled towards what the first window shows.

The means are those of docs/context-extras.md; there is no paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ...motion_models.network.strength import Strength, strength_at, strength_of
from ..feature import Call, Denoise, Predictions, Run
from ..keyframes import ActiveRange, InForce, from_the_start, inherited, start_sigmas
from ..strength.multival import Multival, combined, is_number
from ..windows.schedules import Window
from .extra import Extra, InCall, InPass


@dataclass(frozen=True, eq=False)
class ReuseKeyframe:
    """From ``start_percent`` of the sampling schedule on, ``mult`` and ``mult_multival`` multiply the strength.

    ``mult_multival`` None: that of the keyframe before, or 1 without ``inherit_missing``.
    """

    mult: float = 1.0
    mult_multival: Multival | None = None
    start_percent: float = 0.0
    guarantee_steps: int = 1
    inherit_missing: bool = True


@dataclass(frozen=True, eq=False)
class NaiveReuse(Extra):
    """Acts between two percents of the sampling schedule. ``weighted_mean``: 0 leaves the windows alone, 1 repeats the first."""

    start_percent: float = 0.0
    end_percent: float = 0.15
    weighted_mean: float = 0.95
    strength: Multival | None = None
    keyframes: tuple[ReuseKeyframe, ...] = ()

    def in_pass(self, run: Run) -> ReuseInPass:
        keyframes = inherited(from_the_start(self.keyframes, ReuseKeyframe()), ("mult_multival",))
        starts = start_sigmas(keyframes, run.model_sampling)
        return ReuseInPass(
            ActiveRange.of(self, run.model_sampling),
            InForce(keyframes, starts, run.first_sigma, index=-1),
            tuple(self._strength(keyframe, run.frames) for keyframe in keyframes),
        )

    def _strength(self, keyframe: ReuseKeyframe, frames: int) -> Strength | None:
        number = self.weighted_mean * keyframe.mult
        value = combined(combined(self.strength, keyframe.mult_multival), number)
        return None if number <= 0.0 or is_number(value, 0.0) else strength_of(value, frames)


@dataclass(frozen=True, eq=False)
class ReuseInPass(InPass):
    """``strengths``: how much of the first window there is at each keyframe; None: nothing."""

    range: ActiveRange | None
    keyframes: InForce
    strengths: tuple[Strength | None, ...]

    def in_call(self, call: Call, windows: Sequence[Window], together: bool = False) -> ReuseInCall | None:
        strength = self.strengths[self.keyframes.at(call.step)]
        if strength is None or (self.range is not None and not self.range.holds(call.step)):
            return None
        return ReuseInCall(windows[0], strength, together)


class ReuseInCall(InCall):
    def __init__(self, first: Window, strength: Strength, together: bool = False):
        self.window = first
        self.strength = strength
        self.together = together
        self.first: Predictions = []  # of the first window

    def around_window(self, index: int, call: Call, then: Denoise) -> Predictions:
        predictions = then(call)
        if index == 0:
            self.first = [prediction[self.window] for prediction in predictions] if self.together else predictions
        return predictions

    def blended(self, predictions: Predictions) -> Predictions:
        for prediction, first in zip(predictions, self.first, strict=True):
            for frames in chunks(self.window, len(prediction)):
                index = torch.tensor(frames, device=prediction.device)
                strength = self._strength(frames, prediction)
                of_chunk = strength * first[: len(frames)] + (1.0 - strength) * prediction[index]
                prediction[index] = of_chunk.to(prediction.dtype)
        return predictions

    def _strength(self, frames: Window, like: torch.Tensor) -> float | torch.Tensor:
        if isinstance(self.strength, (float, int)):
            return self.strength
        return strength_at(self.strength.in_window(frames), *like.shape[-2:], like=like)

    def end(self) -> None:
        self.first = []


def chunks(first: Window, frames: int) -> Iterator[Window]:
    """All frames of a clip, in chunks as long as its first window, from the first frame of that on; the last may be shorter.

    Behind the end of the clip follows its beginning.
    """
    length = len(first)
    for start in range(0, frames, length):
        yield [(first[0] + i) % frames for i in range(start, min(start + length, frames))]
