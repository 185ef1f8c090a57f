"""Adjustments of a motion model as it is loaded: of its position tables, and of groups of its weights."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from ...host.told import Told
from ..layouts import MAX_FRAMES, TABLE
from ..network.positions import spread
from ..spec import MotionModelSpec

ADD, MULTIPLY = "add", "multiply"
NO_CHANGE = {ADD: 0.0, MULTIPLY: 1.0}


class AdjustmentError(Told, ValueError):
    """An adjustment that cannot be made; the message says what to change."""


# The widgets that give the fields of a PositionAdjustment, old nodes' in brackets.
WIDGETS = {
    "stretch": "pe_stretch (motion_pe_stretch)",
    "initial_offset": "initial_pe_idx_offset",
    "cap": "sweetspot (cap_initial_pe_length)",
    "length": "new_sweetspot (interpolate_pe_to_length)",
    "final_offset": "final_pe_idx_offset",
}


@dataclass(frozen=True)
class PositionAdjustment:
    """What happens to a position table, in this order; 0 skips a step. Lengths are frames.

    Lengthen by ``stretch``; drop the first ``initial_offset``; keep the first ``cap``; bring to ``length``; drop the
    first ``final_offset``. Lengths change by interpolation along the frames. Raises AdjustmentError for numbers below 0,
    and lengths above MAX_FRAMES.
    """

    stretch: int = 0
    initial_offset: int = 0
    cap: int = 0
    length: int = 0
    final_offset: int = 0
    log: bool = False

    def __post_init__(self):
        for name in ("stretch", "initial_offset", "cap", "length", "final_offset"):
            if getattr(self, name) < 0:
                raise AdjustmentError(
                    f"{WIDGETS[name]} of an Adjust PE node is {getattr(self, name)}. Give 0 or more frames; 0 changes nothing."
                )
        for name in ("stretch", "length"):
            self._check_length(getattr(self, name), WIDGETS[name])

    @staticmethod
    def _check_length(frames: int, where: str) -> None:
        if frames > MAX_FRAMES:
            raise AdjustmentError(
                f"{where} asks for {frames:,} frames, but a position table can be made no longer than {MAX_FRAMES:,}: "
                "published ones have 24 to 64, and each frame takes memory in every motion module. Lower it."
            )

    def adjusted(self, table: torch.Tensor) -> torch.Tensor:
        """``(1, frames, channels)`` -> the same with another number of frames."""
        self._check_length(table.shape[1] + self.stretch, "A chain of Adjust PE nodes")
        if self.stretch:
            table = spread(table, table.shape[1] + self.stretch)
        # min: offsets of any size must be told, not only those that an index can be
        table = table[:, min(self.initial_offset, table.shape[1]) :]
        if self.cap:
            table = table[:, : min(self.cap, table.shape[1])]
        if self.length and table.shape[1]:
            table = spread(table, self.length)
        table = table[:, min(self.final_offset, table.shape[1]) :]
        if table.shape[1] == 0:
            raise AdjustmentError(
                "The offsets of an Adjust PE node are longer than the motion model's position table: no frame would be left. "
                "Lower the offsets."
            )
        return table


def stretched(mask: torch.Tensor, low: float | torch.Tensor, high: float | torch.Tensor) -> torch.Tensor:
    """``mask`` with its smallest value brought to ``low`` and its largest to ``high``.

    A mask of one value has no range to stretch: 0 becomes ``low``, and 1 ``high``.
    """
    least, most = mask.min(), mask.max()
    if most > least:
        mask = (mask - least) / (most - least)
    return mask * (high - low) + low


# What each group of a weight adjustment takes in: name -> whether a tensor's name belongs to it.
GROUPS = {
    "all": lambda name: True,
    "pe": lambda name: _attention(name) and "pos_encoder" in name,
    "attn": lambda name: _attention(name) and "pos_encoder" not in name,
    "attn_q": lambda name: _attention(name) and "to_q." in name,
    "attn_k": lambda name: _attention(name) and "to_k." in name,
    "attn_v": lambda name: _attention(name) and "to_v." in name,
    "attn_out_weight": lambda name: _attention(name) and "to_out." in name and name.endswith("weight"),
    "attn_out_bias": lambda name: _attention(name) and "to_out." in name and name.endswith("bias"),
    "other": lambda name: not _attention(name),
}


def _attention(name: str) -> bool:
    return "attention_blocks" in name


@dataclass(frozen=True)
class WeightAdjustment:
    """``operation`` (ADD or MULTIPLY) with an amount for each of some groups (GROUPS), in the order of GROUPS."""

    operation: str
    amounts: Mapping[str, float]
    log: bool = False

    def __post_init__(self):
        for group, amount in self.amounts.items():
            if not math.isfinite(amount):
                raise AdjustmentError(
                    f"The {group} amount of a weight adjustment is {amount}, which would leave no weights. Give a number."
                )

    def adjusted(self, name: str, value: torch.Tensor) -> torch.Tensor:
        for group, belongs in GROUPS.items():
            amount = self.amounts.get(group, NO_CHANGE[self.operation])
            if belongs(name) and not math.isclose(amount, NO_CHANGE[self.operation], abs_tol=1e-9):
                value = value + amount if self.operation == ADD else value * amount
        return value


@dataclass(frozen=True)
class Adjustments:
    """AD_SETTINGS: what is done to a motion model between its file and the network.

    ``scale``, a mask ``(k, height, width)``, is no adjustment: loaders that apply the motion model as well multiply
    their scale with it. Only settings nodes of old workflows give one.
    """

    positions: tuple[PositionAdjustment, ...] = ()
    weights: tuple[WeightAdjustment, ...] = ()
    scale: torch.Tensor | None = field(default=None, compare=False)

    @property
    def told(self) -> str:
        """The same for equal adjustments of the tensors, and for no others."""
        return repr((self.positions, self.weights))

    def spec(self, spec: MotionModelSpec, tensors: Mapping[str, torch.Tensor]) -> MotionModelSpec:
        """The specification with the frames that the position tables hold once they are adjusted.

        A layout without tables in the file (AnimateLCM) has no positions to adjust. What is to be told is told in the log.
        """
        lengths = {value.shape[1] for name, value in tensors.items() if name.endswith(TABLE)}
        frames = [self.adjusted(TABLE, torch.empty(1, length, 1)).shape[1] for length in lengths]
        for item in (*self.positions, *self.weights):
            if item.log:
                logging.info("[AnimateDiff] %s: %s", spec.name, item)
        return replace(spec, max_frames=min(frames, default=spec.max_frames))

    def adjusted(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """The tensor ``name`` of a motion model."""
        for position in self.positions if name.endswith(TABLE) else ():
            value = position.adjusted(value)
        for weight in self.weights:
            value = weight.adjusted(name, value)
        return value
