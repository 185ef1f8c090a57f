"""Motion models in a run: when they act, how strongly, and with which low-rank changes."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch

from ...motion_models.network.call import BYPASS, LowRank, LowRanks, MotionInputs, View
from ...motion_models.network.low_rank import Pairs
from ..feature import Step
from ..keyframes import InForce, start_sigmas
from ..strength.in_run import StrengthInRun
from ..windows.schedules import Window
from .applied import AppliedMotionModel, inputs_at_keyframes, keyframes_of


class Ranged(Protocol):
    """Acts from ``start_percent`` to ``end_percent`` of the sampling schedule."""

    @property
    def start_percent(self) -> float: ...

    @property
    def end_percent(self) -> float: ...


@dataclass(frozen=True)
class ActiveRange:
    """Something is active while end_sigma <= sigma <= start_sigma."""

    start_sigma: float
    end_sigma: float

    @classmethod
    def of(cls, settings: Ranged, model_sampling) -> "ActiveRange | None":
        """None if it is active from start to end, so that no sigma need be looked at."""
        if settings.start_percent <= 0.0 and settings.end_percent >= 1.0:
            return None
        to_sigma = model_sampling.percent_to_sigma
        return cls(float(to_sigma(settings.start_percent)), float(to_sigma(settings.end_percent)))

    def holds(self, step: Step) -> bool:
        return self.end_sigma <= step.sigma <= self.start_sigma


@dataclass(frozen=True, eq=False)
class MotionInRun:
    """``at_keyframe[i]`` are the inputs while keyframe i is in force; ``low_rank`` are changes of layers beside them."""

    range: ActiveRange | None
    at_keyframe: tuple[MotionInputs, ...]
    keyframes: InForce
    low_rank: tuple[tuple[Pairs, StrengthInRun], ...]

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
            low_rank=tuple(
                (_on(device, pairs), StrengthInRun.of(strength, model_sampling, frames))
                for pairs, strength in settings.low_rank
            ),
        )

    def inputs(self, step: Step, window: Window | None, views: tuple[View, ...]) -> MotionInputs:
        """For a denoiser call at ``step`` with the frames ``window`` of the clip (None: all)."""
        inputs = self.at_keyframe[self.keyframes.at(step)]
        if self.range is not None and not self.range.holds(step):
            return BYPASS
        return replace(inputs.in_window(window), low_rank=self._low_ranks(step, window), views=views)

    def _low_ranks(self, step: Step, window: Window | None) -> LowRanks:
        changes: dict[str, tuple[LowRank, ...]] = {}
        for pairs, strength_in_run in self.low_rank:
            strength = strength_in_run.at(step, window)
            if strength != 0.0:
                for layer, (down, up) in pairs.items():
                    changes[layer] = (*changes.get(layer, ()), LowRank(down, up, strength))
        return changes


def _on(device: torch.device, pairs: Pairs) -> Pairs:
    return {layer: (down.to(device), up.to(device)) for layer, (down, up) in pairs.items()}
