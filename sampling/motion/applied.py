"""Motion models as a MODEL carries them: the network and how the user wants it applied."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...motion_models.files.motion_model import fresh_copy
from ...motion_models.network.call import ModuleInputs, MotionInputs
from ...motion_models.network.low_rank import Pairs
from ...motion_models.network.strength import Strength, VaryingStrength, strength_of
from ...motion_models.spec import MotionModelSpec
from ..keyframes import from_the_start, inherited
from ..strength.multival import Multival, combined, is_number
from ..strength.per_block import Block, PerBlock
from .adapter import Adapter, Values


@dataclass(frozen=True, eq=False)
class Keyframe:
    """From ``start_percent`` of the sampling schedule on, these multiply what the Apply node says.

    What is None keeps the value of the keyframe before, or is 1 without ``inherit_missing``. ``per_block`` replaces.
    ``of_adapters`` are the values of inputs that adapters know: of what it lacks, the same is true.
    """

    start_percent: float = 0.0
    scale: Multival | None = None
    effect: Multival | None = None
    per_block: PerBlock | None = None
    inherit_missing: bool = True
    guarantee_steps: int = 1
    of_adapters: Values = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MotionSettings:
    """How one motion model is applied. Percents are of the sampling schedule: 0 is pure noise, 1 the finished clip.

    ``low_rank`` are the LoRAs whose strength varies, and how; those of constant strength are in the weights.
    """

    start_percent: float = 0.0
    end_percent: float = 1.0
    scale: Multival | None = None
    effect: Multival | None = None
    per_block: PerBlock | None = None
    keyframes: tuple[Keyframe, ...] = ()
    low_rank: tuple[tuple[Pairs, VaryingStrength], ...] = ()
    adapters: tuple[Adapter, ...] = ()


@dataclass(frozen=True, eq=False)
class AppliedMotionModel:
    """One entry of M_MODELS. ``patcher.model`` is a MotionModel."""

    patcher: Any
    settings: MotionSettings

    @property
    def spec(self) -> MotionModelSpec:
        return self.patcher.model.spec


MotionModels = tuple[AppliedMotionModel, ...]


def apply(patcher, settings: MotionSettings, previous: MotionModels = ()) -> MotionModels:
    """Put a motion model in front of those that were applied before (it will run behind them).

    Raises PerBlockMismatch.
    """
    for per_block in (settings.per_block, *(keyframe.per_block for keyframe in settings.keyframes)):
        if per_block is not None:
            per_block.check(patcher.model.spec)
    if any(other.patcher.model is patcher.model for other in previous):
        # the host patches weights per network, so one file applied twice needs two of them
        patcher = fresh_copy(patcher)
    return (AppliedMotionModel(patcher, settings), *previous)


def keyframes_of(settings: MotionSettings) -> tuple[Keyframe, ...]:
    """The keyframes in order. Where none begins at 0, one that changes nothing does."""
    return from_the_start(settings.keyframes, Keyframe())


def inputs_at_keyframes(settings: MotionSettings, spec: MotionModelSpec, frames: int) -> tuple[MotionInputs, ...]:
    """What the motion model is told at each of ``keyframes_of(settings)``, for a clip of ``frames`` frames."""
    return tuple(_inputs(state, spec, frames) for state in _states(settings))


def values_at_keyframes(settings: MotionSettings) -> tuple[Values, ...]:
    """What adapters are told at each of ``keyframes_of(settings)``."""
    return tuple(state.of_adapters for state in _states(settings))


def _states(settings: MotionSettings) -> Iterator[Keyframe]:
    """What is in force at each keyframe: its values or inherited ones, times those of the settings."""
    of_adapters: Values = {}
    for keyframe in inherited(keyframes_of(settings), ("scale", "effect", "per_block")):
        of_adapters = {**(of_adapters if keyframe.inherit_missing else {}), **keyframe.of_adapters}
        yield replace(
            keyframe,
            scale=combined(settings.scale, keyframe.scale),
            effect=combined(settings.effect, keyframe.effect),
            per_block=settings.per_block if keyframe.per_block is None else keyframe.per_block,
            of_adapters=of_adapters,
        )


def _inputs(state: Keyframe, spec: MotionModelSpec, frames: int) -> MotionInputs:
    scale, effect, per_block = state.scale, state.effect, state.per_block
    masks: dict[int, Strength] = {}

    def strength(value: Multival) -> Strength | None:
        if isinstance(value, torch.Tensor):
            # one mask serves many modules, and resizes itself once for all of them
            return masks.setdefault(id(value), strength_of(value, frames))
        return None if is_number(value, 1.0) else 0.0 if is_number(value, 0.0) else value

    def module(block: Block) -> ModuleInputs:
        # what says less than one scale for each attention block says the last one for the rest
        scales = [combined(scale, own) for own in block.scales or (None,)]
        scales += [scales[-1]] * (spec.attention_blocks - len(scales))
        scales = tuple(strength(value) for value in scales[: spec.attention_blocks])
        own_effect = strength(combined(effect, block.effect))
        return ModuleInputs(scales if any(value is not None for value in scales) else (), own_effect)

    modules = {} if per_block is None else {name: module(block) for name, block in per_block.modules(spec).items()}
    # the masks of `combined` live as long as FrameMask refers to them, so an id stands for one mask
    return MotionInputs(module(Block()), modules)
