"""Motion models in a run: when they act, how strongly, and with which low-rank changes."""

from dataclasses import dataclass, replace
from functools import partial

import torch

from ...motion_models.network.call import BYPASS, LowRank, LowRanks, MotionInputs
from ...motion_models.network.low_rank import Pairs
from ...motion_models.network.views import Views
from ..feature import AroundCall, Call, Denoise, Predictions, Run, Step
from ..keyframes import ActiveRange, InForce, start_sigmas
from ..strength.in_run import StrengthInRun
from ..windows.schedules import Window
from .adapter import AdapterInPass, Values
from .applied import AppliedMotionModel, inputs_at_keyframes, keyframes_of, values_at_keyframes


@dataclass(frozen=True, eq=False)
class MotionInRun:
    """``at_keyframe[i]`` are the inputs while keyframe i is in force; ``low_rank`` are changes of layers beside them.

    ``values[i]`` is what keyframe i says to ``adapters``.
    """

    range: ActiveRange | None
    at_keyframe: tuple[MotionInputs, ...]
    keyframes: InForce
    low_rank: tuple[tuple[Pairs, StrengthInRun], ...]
    values: tuple[Values, ...] = ()
    adapters: tuple[AdapterInPass, ...] = ()

    @classmethod
    def of(cls, applied: AppliedMotionModel, run: Run) -> "MotionInRun":
        settings = applied.settings
        keyframes = keyframes_of(settings)
        starts = start_sigmas(keyframes, run.model_sampling)
        return cls(
            range=ActiveRange.of(settings, run.model_sampling),
            at_keyframe=inputs_at_keyframes(settings, applied.spec, run.frames),
            keyframes=InForce(keyframes, starts, run.first_sigma, index=-1),
            low_rank=tuple(
                (_on(run.device, pairs), StrengthInRun.of(strength, run.model_sampling, run.frames))
                for pairs, strength in settings.low_rank
            ),
            values=values_at_keyframes(settings),
            adapters=tuple(adapter.begin(run, applied.spec) for adapter in settings.adapters),
        )

    def in_call(self, call: Call) -> tuple[MotionInputs, tuple[AroundCall, ...]]:
        """What the motion model is told in a denoiser call, and what its adapters do around it."""
        inputs = self.inputs(call.step, call.window, call.views)
        if not self.adapters:
            return inputs, ()
        values = self.values[self.keyframes.at(call.step)]
        around = tuple(partial(_around, adapter, values, inputs) for adapter in self.adapters) if inputs.acts else ()
        for adapter in self.adapters:
            inputs = adapter.inputs(call, values, inputs)
        return inputs, around

    def inputs(self, step: Step, window: Window | None, views: Views | None) -> MotionInputs:
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


def _around(adapter: AdapterInPass, values: Values, inputs: MotionInputs, call: Call, then: Denoise) -> Predictions:
    return adapter.around_call(call, values, inputs, then)


def _on(device: torch.device, pairs: Pairs) -> Pairs:
    return {layer: (down.to(device), up.to(device)) for layer, (down, up) in pairs.items()}
