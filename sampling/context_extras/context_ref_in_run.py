"""ContextRef while a clip is sampled.

Its settings are those of ``context_ref.py``, which imports this file when there is a run; so they have no types here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...host.compiling import is_compiled, kept_out
from ...motion_models.network.strength import FrameMask, Strength, strength_of
from ..feature import Call, Denoise, Predictions, Run
from ..keyframes import ActiveRange, InForce, inherited, start_sigmas
from ..strength.multival import Multival, combined, is_number
from ..windows import other_packs
from ..windows.schedules import Window
from . import unet_blocks
from .controls import ControlsInCall, controls_of
from .extra import InCall, InPass
from .modes import OFF, READ, READS, WRITES, Mode, needed, sources
from .reference import Cond, Part, Reference, ReferenceWindow, replaced, with_patches


def check(run: Run) -> None:
    """Raise, in words, where ContextRef cannot work."""
    unet_blocks.check(run.patcher.model.diffusion_model)
    other_packs.check_nothing_skips(run)


def begin(settings: Any, keyframes: Sequence[Any], run: Run) -> RefInPass:
    """``settings``: a ContextRef. ``keyframes``: its chain of RefKeyframes, the first of which is at the start."""
    model = run.patcher.model
    keyframes = inherited(keyframes, ("mult_multival", "mode", "tune"))
    starts = start_sigmas(keyframes, run.model_sampling)
    return RefInPass(
        ActiveRange.of(settings, run.model_sampling),
        InForce(keyframes, starts, run.first_sigma, index=-1),
        tuple(_at(keyframe, settings, model, run.frames) for keyframe in keyframes),
        settings.mode,
        kept_out if is_compiled(run.model_options) else lambda function: function,
    )


def _at(keyframe: Any, settings: Any, model, frames: int) -> AtKeyframe:
    strength = combined(combined(settings.strength, keyframe.mult_multival), keyframe.mult)
    tune = keyframe.tune or settings.tune
    sdxl = unet_blocks.is_sdxl(model)
    # SDXL is so sensitive to it that small steps would do nothing (discussion 1236, see unet_blocks.py)
    power = 3.0 if sdxl else 1.0
    unet = model.diffusion_model
    return AtKeyframe(
        keyframe.mode or settings.mode,
        Settings.of(
            unet_blocks.attention_blocks(unet, tune.attn_ref_weight),
            combined(strength, tune.attn_strength),
            tune.attn_style_fidelity**power,
            frames,
        ),
        Settings.of(
            unet_blocks.statistics_blocks(unet, tune.adain_ref_weight, sdxl),
            combined(strength, tune.adain_strength),
            tune.adain_style_fidelity**power,
            frames,
        ),
    )


@dataclass(frozen=True, eq=False)
class Settings:
    """Of self-attention or of the statistics of blocks: see Reference."""

    blocks: frozenset
    strength: Strength
    fidelity: float

    @classmethod
    def of(cls, blocks: frozenset, strength: Multival, fidelity: float, frames: int) -> Settings | None:
        """None if nothing would change."""
        nothing = not blocks or is_number(strength, 0.0)
        return None if nothing else cls(blocks, strength_of(strength, frames), fidelity)

    def reference(self, negatives: frozenset[int], taken: frozenset) -> Reference:
        """``taken``: layers, or whole blocks, that are others'."""
        blocks = frozenset(block for block in self.blocks if taken.isdisjoint((block, block[:2])))
        return Reference(blocks, self.strength, self.fidelity, negatives)


@dataclass(frozen=True, eq=False)
class AtKeyframe:
    mode: Mode
    attention: Settings | None
    statistics: Settings | None


@dataclass(frozen=True, eq=False)
class RefInPass(InPass):
    """``at_keyframe[i]`` counts while keyframe i is in force. ``mode`` is that of the node."""

    range: ActiveRange | None
    keyframes: InForce
    at_keyframe: tuple[AtKeyframe, ...]
    mode: Mode
    wrap: Callable[[Callable], Callable]

    def in_call(self, call: Call, windows: Sequence[Window], together: bool = False) -> InCall | None:
        now = self.at_keyframe[self.keyframes.at(call.step)]
        active = self.range is None or self.range.holds(call.step)
        if controls := controls_of(call):
            # theirs look from call to call
            return ControlsInCall(controls, call, self.mode.states, windows, active and not together)
        if not active or (now.attention is None and now.statistics is None):
            return None
        states = needed(now.mode.states(windows))
        if not together:
            return RefInCall(call, now, states, self.wrap)
        within = sources(windows, states, call.frames)
        return None if within is None else RefInCall(call, now, [READ], self.wrap, within)


class RefInCall(InCall):
    """What the windows of one denoiser call hand on; it is let go of with the call.

    ``within``: which frame each frame looks at, where they are all in one UNet call.
    """

    def __init__(
        self,
        call: Call,
        now: AtKeyframe,
        states: list[str],
        wrap: Callable[[Callable], Callable],
        within: list[int] | None = None,
    ):
        self.states = states
        self.within = within
        self.wrap = wrap
        negatives = call.negatives
        taken = replaced(call.model_options["transformer_options"])
        self.attention = now.attention and now.attention.reference(negatives, taken)
        self.statistics = now.statistics and now.statistics.reference(negatives, frozenset())

    def around_window(self, index: int, call: Call, then: Denoise) -> Predictions:
        state = self.states[index]
        attention, statistics = (
            _part(part, state, call.window, self.within) for part in (self.attention, self.statistics)
        )
        if attention is None and statistics is None:
            return then(call)
        call, conds = told_apart(call)
        window = ReferenceWindow(conds, attention, statistics)
        return then(call.with_options(**with_patches(call.transformer_options, window, self.wrap)))

    def end(self) -> None:
        for part in (self.attention, self.statistics):
            if part is not None:
                part.kept.clear()


def _part(reference: Reference | None, state: str, window: Window | None, within: list[int] | None) -> Part | None:
    if reference is None or state == OFF:
        return None
    strength = reference.strength
    if isinstance(strength, FrameMask):
        strength = strength.in_window(window)
    return Part(reference, strength, state in READS, state in WRITES, within)


def told_apart(call: Call) -> tuple[Call, dict[uuid.UUID, Cond]]:
    """``call`` with a uuid of its own for each entry of its conds, and which entry each stands for.

    The host's may stand for two: where conds are for parts of the picture, it copies one prompt's entry to the other.
    """
    found: dict[uuid.UUID, Cond] = {}

    def entries(place: int, cond: list[dict]) -> Iterator[dict]:
        for number, entry in enumerate(cond):
            own = uuid.uuid5(entry["uuid"], f"{place} {number}")
            found[own] = place, number
            yield {**entry, "uuid": own}

    conds = [None if cond is None else list(entries(place, cond)) for place, cond in enumerate(call.conds)]
    return replace(call, conds=conds), found
