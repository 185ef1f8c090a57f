"""Queries, keys and values for views, out of projections that are computed once for all of them.

Positions are added ahead of linear layers, and W (x + position) = W x + W position. So frames are projected once, in however
many views they are, and so are the rows of the position table: a view adds the one to the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from .call import LowRank, MotionInputs
from .low_rank import add_low_rank
from .parts import LaidOut, in_view
from .positions import spread
from .views import OneMotion, Place, Views

QKV = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
QKV_LAYERS = ("to_q", "to_k", "to_v")


@dataclass(frozen=True, eq=False)
class RowsProjected:
    """``rows (1, frames, channels)`` of a position table, and what an attention's layers make of them.

    ``projected[i]`` is of the i-th of QKV_LAYERS, ``varying[i]`` what those of its low-rank changes make of the rows, at
    strength 1, whose strength is a mask.
    """

    rows: torch.Tensor
    projected: tuple[torch.Tensor, ...]
    varying: tuple[tuple[torch.Tensor, ...], ...]

    @classmethod
    def of(cls, rows: torch.Tensor, attention: Any, inputs: MotionInputs) -> RowsProjected:
        projected, varying = [], []
        for name in QKV_LAYERS:
            changes = changes_of(attention, name, inputs)
            numbers = tuple(change for change in changes if not _varies(change))
            projected.append(add_low_rank(getattr(attention, name)(rows), rows, numbers))
            varying.append(
                tuple(
                    functional.linear(functional.linear(rows, change.down.to(rows)), change.up.to(rows))
                    for change in changes
                    if _varies(change)
                )
            )
        return cls(rows, tuple(projected), tuple(varying))


@dataclass(frozen=True, eq=False)
class PositionTerms:
    """Those of one attention in one call: of the first frames of the table, and of as many spread over the whole clip."""

    first: RowsProjected
    spread: RowsProjected | None

    @classmethod
    def of(cls, attention: Any, views: Views, inputs: MotionInputs, like: torch.Tensor) -> PositionTerms:
        rows, one = attention.pos_encoder.rows, views.one_motion
        first = RowsProjected.of(rows(views.longest, like), attention, inputs)
        if one is None:
            return cls(first, None)
        return cls(first, RowsProjected.of(spread(rows(one.length, like), len(one.order)), attention, inputs))


class Projected:
    """The frames of a call in one attention. ``x (positions, frames, channels)`` does not know its positions yet."""

    def __init__(self, attention: Any, x: torch.Tensor, inputs: MotionInputs, scale: LaidOut):
        assert inputs.views is not None
        self.attention, self.x, self.inputs, self.scale = attention, x, inputs, scale
        terms = inputs.position_terms.get(attention.layer_name)
        self.terms = terms or PositionTerms.of(attention, inputs.views, inputs, x)
        # Features that join x do so where it knows its positions: then nothing can be shared.
        self.qkv = None if attention.layer_name in inputs.merges else attention.project(x, inputs)

    def of(self, place: Place, frames: int) -> QKV:
        """Those of a view of ``frames`` frames, whose positions begin at 0; or of views, at ``place (views, frames)``."""
        return self._with_positions(place, frames, self.terms.first)

    def all_spread(self, one: OneMotion) -> QKV:
        """Those of all frames in its order, whose positions are spread over the clip."""
        assert self.terms.spread is not None
        return self._with_positions(one.place, len(one.order), self.terms.spread)

    def _with_positions(self, place: Place, frames: int, table: RowsProjected) -> QKV:
        if self.qkv is None:
            inputs, (scale,) = in_view(self.inputs, (self.scale,), place)
            return self.attention.projected(self.x[:, place] + table.rows[:, :frames], inputs, scale)
        q, k, v = (self._sum(i, y[:, place], place, frames, table) for i, y in enumerate(self.qkv))
        scale = self.scale[:, place] if isinstance(self.scale, torch.Tensor) else self.scale
        return q, k if scale is None else k * scale, v

    def _sum(self, i: int, of_view: torch.Tensor, place: Place, frames: int, table: RowsProjected) -> torch.Tensor:
        y = of_view + table.projected[i][:, :frames]
        if table.varying[i]:
            changes = filter(_varies, changes_of(self.attention, QKV_LAYERS[i], self.inputs))
            for change, of_rows in zip(changes, table.varying[i], strict=True):
                strength: Any = change.strength  # laid out
                y += strength[:, place].to(y) * of_rows[:, :frames]
        return y


def changes_of(attention: Any, layer: str, inputs: MotionInputs) -> tuple[LowRank, ...]:
    return inputs.low_rank.get(f"{attention.layer_name}.{layer}", ()) if inputs.low_rank else ()


def _varies(change: LowRank) -> bool:
    return not isinstance(change.strength, (int, float))
