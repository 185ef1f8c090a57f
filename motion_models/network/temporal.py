"""The temporal network: transformers that attend along the frames of a clip, one spatial position at a time.

Guo et al., "AnimateDiff" (arXiv 2307.04725), section 4.2 and figure 2. Attribute names are those of the published
files, so that a state dict loads as it is.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ...host.attention import temporal_attention, with_terms
from ...host.patcher import operations
from ..spec import MotionModelSpec
from .call import MotionInputs
from .low_rank import add_low_rank
from .parts import LaidOut, Scales, in_parts, in_view, of_clips, varies_over_picture
from .positions import PositionalEncoding
from .projected import QKV, QKV_LAYERS, PositionTerms, Projected, changes_of
from .strength import strength_at
from .views import Place, View, Views

NORM_GROUPS = 32
# Positions x heads stays below 65,535, the largest batch that attention kernels can launch.
MAX_POSITIONS = 4096
# Rows (positions x frames) of the matrix products: what a CPU's caches hold beside the weights.
ROWS_ON_CPU = 1024
# Elements of the widest intermediate (rows x 8 x channels): what a GPU can spare beside the UNet.
WIDEST_ON_GPU = 1 << 28


def positions_at_once(positions: int, frames: int, channels: int, device: torch.device) -> int:
    """How many spatial positions to compute together.

    All of the network between the group norm and the residual treats positions independently, so they can be
    computed in parts of equal size. That bounds memory, and a CPU is faster for it (benchmarks/temporal_module.py).
    """
    return math.ceil(positions / math.ceil(positions / _most_positions(frames, channels, device)))


def _most_positions(frames: int, channels: int, device: torch.device) -> int:
    rows = ROWS_ON_CPU if device.type == "cpu" else WIDEST_ON_GPU // (8 * channels)
    return max(1, min(MAX_POSITIONS, rows // frames))


class TemporalAttention(nn.Module):
    def __init__(self, channels: int, heads: int, max_frames: int, dtype: torch.dtype | None):
        super().__init__()
        self.layer_name = ""  # its path in the MotionModel, which sets it
        self.heads = heads
        self.to_q = operations().Linear(channels, channels, bias=False, dtype=dtype)
        self.to_k = operations().Linear(channels, channels, bias=False, dtype=dtype)
        self.to_v = operations().Linear(channels, channels, bias=False, dtype=dtype)
        self.to_out = nn.ModuleList([operations().Linear(channels, channels, dtype=dtype)])
        self.pos_encoder = PositionalEncoding(max_frames, channels)
        self.attend = temporal_attention()

    def forward(self, x: torch.Tensor, inputs: MotionInputs, scale: LaidOut) -> torch.Tensor:
        """``x (positions, frames, channels)`` -> same shape. ``scale`` multiplies the keys."""
        if inputs.views is None:
            attended = self._attend(self.projected(self.pos_encoder(x), inputs, scale), inputs, inputs.ties)
        else:
            attended = self._attend_in_views(Projected(self, x, inputs, scale), inputs.views, inputs)
        return self._linear("to_out.0", self.to_out[0], attended, inputs)

    def of_view(self, projected: Projected, view: View, inputs: MotionInputs) -> torch.Tensor:
        """What ``forward`` makes of the frames of ``view`` alone; ``inputs`` are theirs."""
        attended = self._attend(projected.of(view.place, len(view.frames)), inputs, inputs.ties)
        return self._linear("to_out.0", self.to_out[0], attended, inputs)

    def project(self, x: torch.Tensor, inputs: MotionInputs) -> QKV:
        q, k, v = (self._linear(name, getattr(self, name), x, inputs) for name in QKV_LAYERS)
        return q, k, v

    def projected(self, x: torch.Tensor, inputs: MotionInputs, scale: LaidOut) -> QKV:
        """Queries, keys and values of hidden states that know their positions."""
        if inputs.merges and (merge := inputs.merges.get(self.layer_name)) is not None:
            x = x + merge.layer(x + merge.features) * merge.strength
        q, k, v = self.project(x, inputs)
        return q, k if scale is None else k * scale, v

    def _attend_in_views(self, projected: Projected, views: Views, inputs: MotionInputs) -> torch.Tensor:
        """Each view by itself, blended where they overlap. What follows is linear in it, so it is computed once."""
        x = projected.x
        blended = torch.zeros_like(x)
        positions, _, channels = x.shape
        at_once = max(1, _most_positions(views.longest, channels, x.device) // positions)
        for equal in views.side_by_side(at_once, x):
            q, k, v = (y.flatten(0, 1) for y in projected.of(equal.frames, equal.frames.shape[1]))
            ties = _of_frames(inputs.ties, equal.frames)
            attended = self._attend((q, k, v), inputs, None if ties is None else ties.flatten(0, 1))
            attended = attended.view(positions, -1, channels)
            for sources, weights in zip(equal.sources, equal.weights, strict=True):
                blended[:, equal.place] += attended[:, sources].mul_(weights[:, None])
        if (one := views.one_motion) is not None:
            ties = _of_frames(inputs.ties, one.place)
            in_order = attended = self._attend(projected.all_spread(one), inputs, ties)
            if not isinstance(one.place, slice):
                in_order = torch.empty_like(attended)
                in_order[:, one.place] = attended
            basis = one.basis_like(attended)
            blended += basis @ (basis.T @ (in_order - blended)) * one.strength
        return blended

    def _attend(self, qkv: QKV, inputs: MotionInputs, ties: torch.Tensor | None) -> torch.Tensor:
        """``ties (sequences, frames, n)``, laid out and of the frames of ``qkv``."""
        attend = self.attend if inputs.attend is None else partial(inputs.attend, self.layer_name)
        return attend(*qkv, self.heads) if ties is None else with_terms(attend, qkv, self.heads, ties, ties)

    def _linear(self, name: str, layer: Any, x: torch.Tensor, inputs: MotionInputs) -> torch.Tensor:
        changes = changes_of(self, name, inputs)
        return add_low_rank(layer(x), x, changes) if changes else layer(x)


def _of_frames(laid_out: torch.Tensor | None, place: Place) -> torch.Tensor | None:
    return None if laid_out is None else laid_out[:, place]


def _add_frames(total: torch.Tensor, place: slice | list[int], frames: torch.Tensor) -> None:
    """Add ``frames (positions, n, channels)`` to ``total`` at ``place``, which may list a frame twice."""
    if isinstance(place, slice):
        total[:, place] += frames
    else:
        total.index_add_(1, torch.tensor(place, device=total.device), frames.to(total.dtype))


class GEGLU(nn.Module):
    def __init__(self, channels: int, inner: int, dtype: torch.dtype | None):
        super().__init__()
        self.proj = operations().Linear(channels, 2 * inner, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return nn.functional.gelu(gate).mul_(value)


class FeedForward(nn.Module):
    def __init__(self, channels: int, dtype: torch.dtype | None):
        super().__init__()
        inner = 4 * channels
        # index 1 was a dropout layer in training
        self.net = nn.ModuleList(
            [GEGLU(channels, inner, dtype), nn.Identity(), operations().Linear(inner, channels, dtype=dtype)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net[2](self.net[0](x))


class TemporalBlock(nn.Module):
    """Self-attention along the frames (twice in the published models), then a feed-forward network."""

    def __init__(self, channels: int, spec: MotionModelSpec, dtype: torch.dtype | None):
        super().__init__()
        blocks = range(spec.attention_blocks)
        self.attention_blocks = nn.ModuleList(
            [TemporalAttention(channels, spec.heads, spec.max_frames, dtype) for _ in blocks]
        )
        self.norms = nn.ModuleList([operations().LayerNorm(channels, dtype=dtype) for _ in blocks])
        self.ff = FeedForward(channels, dtype)
        self.ff_norm = operations().LayerNorm(channels, dtype=dtype)

    def forward(self, x: torch.Tensor, inputs: MotionInputs, scales: Scales) -> torch.Tensor:
        scales = scales or (None,) * len(self.norms)
        if inputs.views is None or inputs.views.shared:
            x = self._attend(x, inputs, scales)
        else:
            x = self._attend_in_views(x, inputs.views, inputs, scales)
        # residuals are added in place, to tensors that nothing else refers to
        return self.ff(self.ff_norm(x)).add_(x)

    def _attend(
        self, x: torch.Tensor, inputs: MotionInputs, scales: Scales, first: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``first``: what the first attention made of ``x``, where it is known."""
        for attention, norm, scale in zip(self.attention_blocks, self.norms, scales, strict=True):
            attended, first = attention(norm(x), inputs, scale) if first is None else first, None
            x = attended.add_(x)
            if inputs.projections and (after := inputs.projections.get(str(attention.layer_name))) is not None:
                x = after.layer(torch.cat([x, after.features], dim=-1))
        return x

    def _attend_in_views(self, x: torch.Tensor, views: Views, inputs: MotionInputs, scales: Scales) -> torch.Tensor:
        """All attentions for each view by itself, whose positions begin at 0; overlapping views are averaged.

        The first one sees the same frames in every view, so those are projected once.
        """
        blended = torch.zeros_like(x)
        first: Any = self.attention_blocks[0]
        projected = Projected(first, self.norms[0](x), inputs, scales[0])
        for view, weights in zip(views.each, views.weights, strict=True):
            of_view = in_view(inputs, scales, view.place)
            attended = self._attend(x[:, view.place], *of_view, first=first.of_view(projected, view, of_view[0]))
            _add_frames(blended, view.place, attended * weights.to(attended)[:, None])
        return blended


class TemporalTransformer(nn.Module):
    def __init__(self, channels: int, spec: MotionModelSpec, dtype: torch.dtype | None):
        super().__init__()
        self.layer_name = ""  # its path in the MotionModel, which sets it
        self.norm = operations().GroupNorm(NORM_GROUPS, channels, eps=1e-6, dtype=dtype)
        self.proj_in = operations().Linear(channels, channels, dtype=dtype)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(channels, spec, dtype)])
        self.proj_out = operations().Linear(channels, channels, dtype=dtype)

    def _positions(self, x: torch.Tensor, inputs: MotionInputs, scales: Scales) -> torch.Tensor:
        """``(positions, frames, channels)`` -> same shape."""
        x = self.proj_in(x)
        for block in self.transformer_blocks:
            x = block(x, inputs, scales)
        return self.proj_out(x)

    def _with_position_terms(self, inputs: MotionInputs, like: torch.Tensor) -> MotionInputs:
        """With what views need of the position tables, which is the same for all parts."""
        if inputs.views is None:
            return inputs
        attentions = [module for module in self.modules() if isinstance(module, TemporalAttention)]
        terms = {one.layer_name: PositionTerms.of(one, inputs.views, inputs, like) for one in attentions}
        return replace(inputs, position_terms=terms)

    def forward(self, x: torch.Tensor, frames: int, inputs: MotionInputs, scales: tuple) -> torch.Tensor:
        """What the transformer adds to ``x (clips * frames, channels, height, width)``.

        ``scales``: one for each attention block, or none at all. Shape
        ``(clips, frames, channels, height, width)``, a view: the sum with ``x`` reads it as it lies in memory.
        """
        batch, channels, height, width = x.shape
        clips = batch // frames
        y = self.norm(x).to(x.dtype)
        # The only copy: it puts the frames of every position side by side, where all that follows works on them.
        y = y.reshape(clips, frames, channels, height * width).permute(0, 3, 1, 2).reshape(-1, frames, channels)
        inputs = self._with_position_terms(inputs, like=y)
        parts = y.split(positions_at_once(y.shape[0], frames, channels, y.device))
        if varies_over_picture(inputs, scales):
            sizes = [part.shape[0] for part in parts]
            of_parts = in_parts(inputs, scales, self.layer_name, sizes, clips, height, width, like=y)
        else:
            of_parts = itertools.repeat((inputs, scales), len(parts))
        made = (self._positions(part, *of_part) for part, of_part in zip(parts, of_parts, strict=True))
        if len(parts) == 1:
            (y,) = made
        elif torch.is_grad_enabled():
            y = torch.cat(list(made))
        else:  # into the place of what it was made of
            for part, one in zip(parts, made, strict=True):
                part.copy_(one)
        return y.view(clips, height, width, frames, channels).permute(0, 3, 4, 1, 2)


class MotionModule(nn.Module):
    """One temporal transformer with its effect: how much of it reaches the picture.

    A model without attention blocks has no transformers: its modules add what adapters tell them to, and nothing else.
    """

    def __init__(self, channels: int, spec: MotionModelSpec, dtype: torch.dtype | None):
        super().__init__()
        self.layer_name = ""  # its path in the MotionModel, which sets it
        self.temporal_transformer = TemporalTransformer(channels, spec, dtype) if spec.attention_blocks else None

    def forward(self, x: torch.Tensor, frames: int, inputs: MotionInputs) -> torch.Tensor:
        """``x (clips * frames, channels, height, width)`` -> same shape. Pure: nothing is kept between calls."""
        own = inputs.module(self.layer_name)
        ahead = inputs.ahead.get(self.layer_name) if inputs.ahead else None
        windows = inputs.windows
        clips = x.unflatten(0, (-1, windows, frames))  # of each cond its windows
        if ahead is None:
            if own.effect == 0.0 or self.temporal_transformer is None:
                return x
            added = self._transformed(x, frames, inputs).unflatten(0, (-1, windows))
        else:
            added = of_clips(ahead.at(*x.shape[2:], like=x), windows)
            if own.effect != 0.0 and self.temporal_transformer is not None:
                total = (clips + added).flatten(0, 2)
                added = self._transformed(total, frames, inputs).unflatten(0, (-1, windows)) + added
        if own.effect is not None and own.effect != 0.0:
            effect = strength_at(own.effect, *x.shape[2:], like=x)
            added = added * (of_clips(effect, windows) if isinstance(effect, torch.Tensor) else effect)
        return (clips + added).flatten(0, 2)

    def _transformed(self, x: torch.Tensor, frames: int, inputs: MotionInputs) -> torch.Tensor:
        assert self.temporal_transformer is not None
        compute = partial(self.temporal_transformer, x, frames, inputs, inputs.module(self.layer_name).scale)
        if inputs.transform is None or inputs.attend is not None:
            return compute()
        return inputs.transform(inputs.conds, self.layer_name, x, compute)


class MotionBlock(nn.Module):
    """The motion modules of one level."""

    def __init__(self, channels: tuple[int, ...], spec: MotionModelSpec, dtype: torch.dtype | None):
        super().__init__()
        self.motion_modules = nn.ModuleList([MotionModule(c, spec, dtype) for c in channels])


class MotionModel(nn.Module):
    """All motion modules of one file."""

    def __init__(self, spec: MotionModelSpec, dtype: torch.dtype | None = None):
        super().__init__()
        self.spec = spec
        if spec.down:
            self.down_blocks = nn.ModuleList([MotionBlock(level, spec, dtype) for level in spec.down])
        if spec.mid:
            self.mid_block = MotionBlock(spec.mid, spec, dtype)
        if spec.up:
            self.up_blocks = nn.ModuleList([MotionBlock(level, spec, dtype) for level in spec.up])
        for name, module in self.named_modules():
            if isinstance(module, (MotionModule, TemporalTransformer, TemporalAttention)):
                module.layer_name = name

    def modules_of(self, part: str) -> list[MotionModule]:
        """The motion modules of ``"down"``, ``"mid"`` or ``"up"`` in the order in which a UNet runs through them."""
        if not getattr(self.spec, part):
            return []
        blocks: list[Any] = [self.mid_block] if part == "mid" else getattr(self, f"{part}_blocks")
        return [module for block in blocks for module in block.motion_modules]

    def motion_modules(self) -> list[MotionModule]:
        return [module for part in ("down", "mid", "up") for module in self.modules_of(part)]

    def projections(self) -> Iterator[tuple[str, nn.Linear]]:
        """The layers that LoRAs change, by the name under which MotionInputs.low_rank knows them."""
        for name, module in self.named_modules():
            if isinstance(module, TemporalAttention):
                output: Any = module.to_out[0]
                layers = (
                    ("to_q", module.to_q),
                    ("to_k", module.to_k),
                    ("to_v", module.to_v),
                    ("to_out.0", output),
                )
                yield from ((f"{name}.{layer}", linear) for layer, linear in layers)
