"""Motion models as a MODEL carries them: the network and how the user wants it applied."""

import math
from dataclasses import dataclass

from ..host.patcher import fresh_copy
from ..motion_models.call import MotionInputs
from ..motion_models.spec import MotionModelSpec
from ..motion_models.strength import VaryingLowRank


@dataclass(frozen=True)
class MotionSettings:
    """How one motion model is applied. Percents are of the sampling schedule: 0 is pure noise, 1 the finished clip.

    ``low_rank`` are the LoRAs whose strength varies; those of constant strength are in the weights.
    """

    start_percent: float = 0.0
    end_percent: float = 1.0
    scale: float = 1.0
    effect: float = 1.0
    low_rank: tuple[VaryingLowRank, ...] = ()

    def inputs(self, in_range: bool) -> MotionInputs:
        effect = self.effect if in_range else 0.0
        return MotionInputs(
            scale=None if math.isclose(self.scale, 1.0) else self.scale,
            effect=None if math.isclose(effect, 1.0) else 0.0 if math.isclose(effect, 0.0) else effect,
        )


@dataclass(frozen=True)
class AppliedMotionModel:
    """One entry of M_MODELS. ``patcher.model`` is a MotionModel."""

    patcher: object
    settings: MotionSettings

    @property
    def spec(self) -> MotionModelSpec:
        return self.patcher.model.spec


MotionModels = tuple[AppliedMotionModel, ...]


def apply(patcher, settings: MotionSettings, previous: MotionModels = ()) -> MotionModels:
    """Put a motion model in front of those that were applied before (it will run behind them)."""
    if any(other.patcher.model is patcher.model for other in previous):
        # the host patches weights per network, so one file applied twice needs two of them
        patcher = fresh_copy(patcher)
    return (AppliedMotionModel(patcher, settings), *previous)
