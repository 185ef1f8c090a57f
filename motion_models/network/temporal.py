"""The temporal network: transformers that attend along the frames of a clip, one spatial position at a time.

Guo et al., "AnimateDiff" (arXiv 2307.04725), section 4.2 and figure 2. Attribute names are those of the published
files, so that a state dict loads as it is.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ...host.attention import temporal_attention
from ...host.patcher import operations
from ..spec import MotionModelSpec
from .call import MotionInputs
from .low_rank import add_low_rank
from .parts import Scales, in_parts, in_view, of_clips, varies_over_picture
from .strength import strength_at

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
    rows = ROWS_ON_CPU if device.type == "cpu" else WIDEST_ON_GPU // (8 * channels)
    most = max(1, min(MAX_POSITIONS, rows // frames))
    return math.ceil(positions / math.ceil(positions / most))


def sinusoidal_table(length: int, channels: int) -> torch.Tensor:
    """Position table ``(1, length, channels)``: sines in even channels, cosines in odd (Vaswani et al., 3.5)."""
    position = torch.arange(length).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
    table = torch.zeros(1, length, channels)
    table[0, :, 0::2] = torch.sin(position * frequency)
    table[0, :, 1::2] = torch.cos(position * frequency)[:, : channels // 2]
    return table


class PositionalEncoding(nn.Module):
    pe: torch.Tensor

    def __init__(self, length: int, channels: int):
        super().__init__()
        # float32 whatever the weights are: small, and fp8 would ruin it
        self.register_buffer("pe", sinusoidal_table(length, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the table to ``x (positions, frames, channels)``; a clip or window always starts at its first row."""
        # .to(): a partially loaded model keeps its buffers where it was offloaded to
        return x + self.pe[:, : x.shape[1]].to(device=x.device, dtype=x.dtype)


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

    def forward(self, x: torch.Tensor, inputs: MotionInputs, scale: float | torch.Tensor | None) -> torch.Tensor:
        """``x (positions, frames, channels)`` -> same shape. ``scale`` multiplies the keys."""
        x = self.pos_encoder(x)
        if inputs.merges and (merge := inputs.merges.get(self.layer_name)) is not None:
            x = x + merge.layer(x + merge.features) * merge.strength
        q, k, v = (self._linear(name, getattr(self, name), x, inputs) for name in ("to_q", "to_k", "to_v"))
        if scale is not None:
            k = k * scale
        if inputs.attend is None:
            attended = self.attend(q, k, v, self.heads)
        else:
            attended = inputs.attend(self.layer_name, q, k, v, self.heads)
        return self._linear("to_out.0", self.to_out[0], attended, inputs)

    def _linear(self, name: str, layer: Any, x: torch.Tensor, inputs: MotionInputs) -> torch.Tensor:
        changes = inputs.low_rank.get(f"{self.layer_name}.{name}") if inputs.low_rank else None
        return add_low_rank(layer(x), x, changes) if changes else layer(x)


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
        x = self._attend_in_views(x, inputs, scales) if inputs.views else self._attend(x, inputs, scales)
        # residuals are added in place, to tensors that nothing else refers to
        return self.ff(self.ff_norm(x)).add_(x)

    def _attend(self, x: torch.Tensor, inputs: MotionInputs, scales: Scales) -> torch.Tensor:
        scales = scales or (None,) * len(self.norms)
        for attention, norm, scale in zip(self.attention_blocks, self.norms, scales, strict=True):
            x = attention(norm(x), inputs, scale).add_(x)
            if inputs.projections and (after := inputs.projections.get(str(attention.layer_name))) is not None:
                x = after.layer(torch.cat([x, after.features], dim=-1))
        return x

    def _attend_in_views(self, x: torch.Tensor, inputs: MotionInputs, scales: Scales) -> torch.Tensor:
        """Both attentions for each view by itself, whose positions begin at 0; overlapping views are averaged."""
        total, weights = torch.zeros_like(x), torch.zeros(x.shape[1], device=x.device)
        for view in inputs.views:
            frames, of_frame = torch.tensor(view.frames, device=x.device), view.weights.to(x.device)
            attended = self._attend(x[:, frames], *in_view(inputs, scales, view.frames))
            total.index_add_(1, frames, (attended * of_frame[:, None]).to(x.dtype))
            weights.index_add_(0, frames, of_frame)
        return (total / weights[:, None]).to(x.dtype)


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
        parts = y.split(positions_at_once(y.shape[0], frames, channels, y.device))
        if varies_over_picture(inputs, scales):
            sizes = [part.shape[0] for part in parts]
            of_parts = in_parts(inputs, scales, self.layer_name, sizes, clips, height, width, like=y)
            parts = [self._positions(part, *of_part) for part, of_part in zip(parts, of_parts, strict=True)]
        else:
            parts = [self._positions(part, inputs, scales) for part in parts]
        y = parts[0] if len(parts) == 1 else torch.cat(parts)
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
            added = self.temporal_transformer(x, frames, inputs, own.scale).unflatten(0, (-1, windows))
        else:
            added = of_clips(ahead.at(*x.shape[2:], like=x), windows)
            if own.effect != 0.0 and self.temporal_transformer is not None:
                total = (clips + added).flatten(0, 2)
                made = self.temporal_transformer(total, frames, inputs, own.scale)
                added = made.unflatten(0, (-1, windows)) + added
        if own.effect is not None and own.effect != 0.0:
            effect = strength_at(own.effect, *x.shape[2:], like=x)
            added = added * (of_clips(effect, windows) if isinstance(effect, torch.Tensor) else effect)
        return (clips + added).flatten(0, 2)


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
