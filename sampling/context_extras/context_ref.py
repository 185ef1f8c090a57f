"""ContextRef: later windows of a step look at earlier ones, so that all of them show the same things."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ...host.compiling import is_compiled, kept_out
from ...motion_models.network.strength import FrameMask, Strength, strength_of
from ..feature import Call, Denoise, Predictions, Run
from ..keyframes import ActiveRange, InForce, from_the_start, inherited, start_sigmas
from ..strength.multival import Multival, combined, is_number
from ..windows import other_packs
from ..windows.schedules import Window
from . import unet_blocks
from .controls import ControlsInCall, controls_of
from .extra import Extra, InCall, InPass
from .modes import ALL_AT_FIRST, OFF, READS, WRITES, Mode, needed
from .reference import Cond, Part, Reference, ReferenceWindow, replaced, with_patches


@dataclass(frozen=True)
class Tune:
    """How self-attention (``attn``) and the statistics of blocks (``adain``) take part.

    ``style_fidelity``: how much of the negative prediction goes without. ``ref_weight``: in how many layers, 0 to 1.
    ``strength`` multiplies that of the node.
    """

    attn_style_fidelity: float = 1.0
    attn_ref_weight: float = 1.0
    attn_strength: float = 1.0
    adain_style_fidelity: float = 0.0
    adain_ref_weight: float = 0.0
    adain_strength: float = 0.0


@dataclass(frozen=True, eq=False)
class RefKeyframe:
    """From ``start_percent`` of the sampling schedule on, these count.

    ``mult`` and ``mult_multival`` multiply the strength, ``mode`` and ``tune`` replace those of the node. What is None is
    that of the keyframe before, or the node's without ``inherit_missing``.
    """

    mult: float = 1.0
    mult_multival: Multival | None = None
    mode: Mode | None = None
    tune: Tune | None = None
    start_percent: float = 0.0
    guarantee_steps: int = 1
    inherit_missing: bool = True


@dataclass(frozen=True, eq=False)
class ContextRef(Extra):
    """Acts between two percents of the sampling schedule."""

    start_percent: float = 0.0
    end_percent: float = 0.25
    strength: Multival | None = None
    mode: Mode = ALL_AT_FIRST
    tune: Tune = Tune()
    keyframes: tuple[RefKeyframe, ...] = ()

    def check(self, run: Run) -> None:
        unet_blocks.check(run.patcher.model.diffusion_model)
        other_packs.check_nothing_skips(run)

    def in_pass(self, run: Run) -> InPass:
        model = run.patcher.model
        keyframes = inherited(from_the_start(self.keyframes, RefKeyframe()), ("mult_multival", "mode", "tune"))
        starts = start_sigmas(keyframes, run.model_sampling)
        return RefInPass(
            ActiveRange.of(self, run.model_sampling),
            InForce(keyframes, starts, run.first_sigma, index=-1),
            tuple(self._at(keyframe, model, run.frames) for keyframe in keyframes),
            self.mode,
            kept_out if is_compiled(run.model_options) else lambda function: function,
        )

    def _at(self, keyframe: RefKeyframe, model, frames: int) -> AtKeyframe:
        strength = combined(combined(self.strength, keyframe.mult_multival), keyframe.mult)
        tune = keyframe.tune or self.tune
        sdxl = unet_blocks.is_sdxl(model)
        # SDXL is so sensitive to it that small steps would do nothing (discussion 1236, see unet_blocks.py)
        power = 3.0 if sdxl else 1.0
        unet = model.diffusion_model
        return AtKeyframe(
            keyframe.mode or self.mode,
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

    def in_call(self, call: Call, windows: Sequence[Window]) -> InCall | None:
        now = self.at_keyframe[self.keyframes.at(call.step)]
        active = self.range is None or self.range.holds(call.step)
        if controls := controls_of(call):
            return ControlsInCall(controls, call, self.mode.states, windows, active)
        if not active or (now.attention is None and now.statistics is None):
            return None
        return RefInCall(call, now, needed(now.mode.states(windows)), self.wrap)


class RefInCall(InCall):
    """What the windows of one denoiser call hand on; it is let go of with the call."""

    def __init__(self, call: Call, now: AtKeyframe, states: list[str], wrap: Callable[[Callable], Callable]):
        self.states = states
        self.wrap = wrap
        negatives = call.negatives
        taken = replaced(call.model_options["transformer_options"])
        self.attention = now.attention and now.attention.reference(negatives, taken)
        self.statistics = now.statistics and now.statistics.reference(negatives, frozenset())

    def around_window(self, index: int, call: Call, then: Denoise) -> Predictions:
        state = self.states[index]
        attention, statistics = (_part(part, state, call.window) for part in (self.attention, self.statistics))
        if attention is None and statistics is None:
            return then(call)
        call, conds = told_apart(call)
        window = ReferenceWindow(conds, attention, statistics)
        options = {**call.model_options["transformer_options"], **call.options}
        return then(call.with_options(**with_patches(options, window, self.wrap)))

    def end(self) -> None:
        for part in (self.attention, self.statistics):
            if part is not None:
                part.kept.clear()


def _part(reference: Reference | None, state: str, window: Window | None) -> Part | None:
    if reference is None or state == OFF:
        return None
    strength = reference.strength
    if isinstance(strength, FrameMask):
        strength = strength.in_window(window)
    return Part(reference, strength, state in READS, state in WRITES)


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
