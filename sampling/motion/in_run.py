"""Motion models in a run: when they act, how strongly, and with which low-rank changes."""

from dataclasses import dataclass, replace

import torch

from ...motion_models.network.call import BYPASS, MotionInputs, View
from ..feature import Step
from ..keyframes import InForce, start_sigmas
from ..strength.low_rank import RunLowRank, merged
from ..windows.schedules import Window
from .applied import AppliedMotionModel, MotionSettings, inputs_at_keyframes, keyframes_of


@dataclass(frozen=True)
class ActiveRange:
    """A motion model is active while end_sigma <= sigma <= start_sigma."""

    start_sigma: float
    end_sigma: float

    @classmethod
    def of(cls, settings: MotionSettings, model_sampling) -> "ActiveRange | None":
        """None if the model is active from start to end, so that no sigma need be looked at."""
        if settings.start_percent <= 0.0 and settings.end_percent >= 1.0:
            return None
        to_sigma = model_sampling.percent_to_sigma
        return cls(float(to_sigma(settings.start_percent)), float(to_sigma(settings.end_percent)))


@dataclass(frozen=True, eq=False)
class MotionInRun:
    """``at_keyframe[i]`` are the inputs while keyframe i is in force."""

    range: ActiveRange | None
    at_keyframe: tuple[MotionInputs, ...]
    keyframes: InForce
    low_rank: tuple[RunLowRank, ...]

    @classmethod
    def of(
        cls, applied: AppliedMotionModel, frames: int, model_sampling, first_sigma: float, device: torch.device
    ) -> "MotionInRun":
        settings = applied.settings
        keyframes = keyframes_of(settings)
        starts = start_sigmas(keyframes, model_sampling)
        return cls(
            range=ActiveRange.of(settings, model_sampling),
            at_keyframe=inputs_at_keyframes(settings, applied.spec, frames),
            keyframes=InForce(keyframes, starts, first_sigma, index=-1),
            low_rank=tuple(RunLowRank.of(change, model_sampling, frames, device) for change in settings.low_rank),
        )

    def inputs(self, step: Step, window: Window | None, views: tuple[View, ...]) -> MotionInputs:
        """For a denoiser call at ``step`` with the frames ``window`` of the clip (None: all)."""
        inputs = self.at_keyframe[self.keyframes.at(step)]
        if self.range is not None and not self.range.end_sigma <= step.sigma <= self.range.start_sigma:
            return BYPASS
        changes = [change.at(step.sigma if change.schedule else None, window) for change in self.low_rank]
        return replace(inputs.in_window(window), low_rank=merged(changes), views=views)
