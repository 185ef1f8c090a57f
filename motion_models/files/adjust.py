"""Adjustments of a motion model as it is loaded: of its position tables, and of groups of its weights."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch.nn import functional

from ..spec import MotionModelSpec

Tensors = dict[str, torch.Tensor]

ADD, MULTIPLY = "add", "multiply"
NO_CHANGE = {ADD: 0.0, MULTIPLY: 1.0}


class AdjustmentError(ValueError):
    """An adjustment that leaves nothing of a position table; the message says what to change."""


@dataclass(frozen=True)
class PositionAdjustment:
    """What happens to a position table, in this order; 0 skips a step. Lengths are frames.

    Lengthen by ``stretch``; drop the first ``initial_offset``; keep the first ``cap``; bring to ``length``; drop the
    first ``final_offset``. Lengths change by interpolation along the frames.
    """

    stretch: int = 0
    initial_offset: int = 0
    cap: int = 0
    length: int = 0
    final_offset: int = 0
    log: bool = False

    def of(self, table: torch.Tensor) -> torch.Tensor:
        """``(1, frames, channels)`` -> the same with another number of frames."""
        if self.stretch:
            table = _interpolated(table, table.shape[1] + self.stretch)
        table = table[:, self.initial_offset :]
        if self.cap:
            table = table[:, : self.cap]
        if self.length and table.shape[1]:
            table = _interpolated(table, self.length)
        table = table[:, self.final_offset :]
        if table.shape[1] == 0:
            raise AdjustmentError(
                "The offsets of an Adjust PE node are longer than the motion model's position table: no frame would be left. "
                "Lower the offsets."
            )
        return table


def _interpolated(table: torch.Tensor, length: int) -> torch.Tensor:
    """Linear along the frames, which lie in the middle of their cells."""
    along_frames = table.float().transpose(1, 2)
    return (
        functional.interpolate(along_frames, length, mode="linear", align_corners=False).transpose(1, 2).to(table.dtype)
    )


def stretched(mask: torch.Tensor, low: float, high: float) -> torch.Tensor:
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

    def of(self, name: str, value: torch.Tensor) -> torch.Tensor:
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

    def apply(self, spec: MotionModelSpec, tensors: Tensors) -> tuple[MotionModelSpec, Tensors]:
        """The adjusted tensors, and the specification with the frames that the position tables now hold.

        A layout without tables in the file (AnimateLCM) has no positions to adjust.
        """
        adjusted = {}
        for name, value in tensors.items():
            for position in self.positions if name.endswith("pos_encoder.pe") else ():
                value = position.of(value)
            for weight in self.weights:
                value = weight.of(name, value)
            adjusted[name] = value
        tables = [value.shape[1] for name, value in adjusted.items() if name.endswith("pos_encoder.pe")]
        for item in (*self.positions, *self.weights):
            if item.log:
                logging.info("[AnimateDiff] %s: %s", spec.name, item)
        return replace(spec, max_frames=min(tables, default=spec.max_frames)), adjusted
