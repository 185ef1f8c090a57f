"""One window of a clip looks at another: what that takes inside the UNet.

Self-attention: the features that one window makes its keys and values of are further keys and values of another window,
frame by frame, so that both show the same things: shared attention as in Hertz et al., "Style Aligned Image Generation via
Shared Attention" (arXiv 2312.02133), section 4.1, without its normalisation of queries and keys.
Blocks: the mean and deviation of each channel over the picture become those of the other window: AdaIN, Huang and
Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization" (arXiv 1703.06868), equation 8.

Works through functions that the host's UNet calls ("patches") with the transformer_options, where ``KEY`` has the
ReferenceWindow of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import torch
from comfy.ldm.modules.attention import optimized_attention

from ...host.told import Told
from ...motion_models.network.call import ALL_FRAMES_KEY
from ...motion_models.network.strength import Strength, strength_at
from .unet_blocks import Attention, Block

KEY = "animatediff_context_ref"
LEAST_VARIANCE = 1e-6
# Of a cond in a call: its place among the conds of the guider, and among the entries of that one.
Cond = tuple[int, int]


class ContextRefError(Told, ValueError):
    """A UNet call in which a window cannot look at another; the message says what to change."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What is handed from window to window in one denoiser call, in the self-attention layers or the blocks ``blocks``.

    ``strength``: 1 is the other window's, 0 the own. ``fidelity``: how much of the negative prediction goes without.
    ``kept`` holds what the last window that wrote left behind.
    """

    blocks: frozenset[Attention] | frozenset[Block]
    strength: Strength
    fidelity: float
    negatives: frozenset[int]
    kept: dict[tuple[Cond, Hashable], tuple[torch.Tensor, ...]] = field(default_factory=dict)

    def plain(self, cond: Cond) -> float:
        """How much of ``cond`` goes without: 1 if it takes no part at all."""
        return self.fidelity if cond[0] in self.negatives else 0.0

    def keep(self, cond: Cond, block: Hashable, *features: torch.Tensor) -> None:
        # copies: a slice would keep all conds of the batch in memory
        self.kept[cond, block] = tuple(feature.clone() for feature in features)

    def of(self, cond: Cond, block: Hashable, like: torch.Tensor) -> list[torch.Tensor]:
        """What was kept, with one entry for each frame of ``like``. Raises ContextRefError."""
        if (cond, block) not in self.kept:
            raise ContextRefError(
                "ContextRef: a context window did not go through the whole UNet, so that those after it cannot look at it. "
                "Another node on the MODEL skips parts of the UNet (caching): remove it, or ContextRef."
            )
        return [_for_frames(feature, len(like)).to(like.device) for feature in self.kept[cond, block]]


@dataclass(frozen=True, eq=False)
class Part:
    """A Reference in the call of one window. ``reads``: an earlier window wrote; ``writes``: a later one reads.

    ``within``: the frame that each frame looks at, where all windows are in one call and nothing has to be kept.
    """

    reference: Reference
    strength: Strength
    reads: bool
    writes: bool
    within: list[int] | None = None

    def read_for(self, cond: Cond) -> bool:
        return self.reads and self.reference.plain(cond) < 1.0

    def others(self, cond: Cond, block: Hashable, own: torch.Tensor, *features: torch.Tensor) -> list[torch.Tensor]:
        """What the frames of ``own`` look at, in place of their own ``features``."""
        if self.within is not None:
            return [feature[self.within] for feature in features]
        return self.reference.of(cond, block, like=own)

    def written_for(self, cond: Cond) -> bool:
        return self.writes and self.reference.plain(cond) < 1.0


@dataclass(frozen=True, eq=False)
class ReferenceWindow:
    """``conds``: which cond each ``uuid`` of the host's batch stands for."""

    conds: Mapping[UUID, Cond]
    attention: Part | None
    statistics: Part | None

    def rows(self, options: Mapping, batch: int) -> Iterator[tuple[Cond, slice]]:
        """The conds that a batch of ``batch`` rows holds, one behind the other. Raises ContextRefError."""
        uuids = options["uuids"]
        frames, rest = divmod(batch, len(uuids))
        if rest or not all(uuid in self.conds for uuid in uuids):
            raise ContextRefError(
                "ContextRef: another node on the MODEL takes the frames or the conditioning of a context window apart (tiling or "
                "batching). Remove that node, or ContextRef."
            )
        for i, uuid in enumerate(uuids):
            yield self.conds[uuid], slice(i * frames, (i + 1) * frames)


# Self-attention, in two functions of the host's: what keys and values are made of, and what becomes of them.


def further_keys(n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, options: dict):
    """An attn1_patch. ``n``, ``context`` and ``value (rows, positions, channels)`` come out of the layer's norm.

    The other window's features are appended as further rows: not every row looks at them.
    """
    window: ReferenceWindow = options[KEY]
    part, block = window.attention, (*options["block"], options["block_index"])
    if part is None or block not in part.reference.blocks:
        return n, context, value
    if len(n) != len(context):
        raise ContextRefError(
            "ContextRef: another node on the MODEL cuts pictures into tiles inside self-attention (as HyperTile does). Remove "
            "that node, or ContextRef."
        )
    reference, found = part.reference, []
    for cond, rows in window.rows(options, len(context)):
        own = context[rows]
        if part.read_for(cond):
            (others,) = part.others(cond, block, own, own)
            found.append(blend(own, others, positions_of(part.strength, options, own)))
        if part.written_for(cond):
            reference.keep(cond, block, own)
    if not found:
        return n, context, value
    with_others = torch.cat([context, *found])
    return n, with_others, with_others if value is context else torch.cat([value, *found])


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict) -> torch.Tensor:
    """A replacement of attn1, ``q (rows, positions, channels)``: those of ``k`` and ``v`` end with the rows appended above."""
    window: ReferenceWindow = options[KEY]
    part: Part = window.attention  # pyright: ignore[reportAssignmentType] - else the layer would not have been replaced
    appended = len(q)

    def attention(q, k, v):
        precision = options["attn_precision"]
        return optimized_attention(q, k, v, options["n_heads"], attn_precision=precision, transformer_options=options)

    found = []
    for cond, rows in window.rows(options, len(q)):
        of_cond = q[rows], k[rows], v[rows]
        if not part.read_for(cond):
            found.append(attention(*of_cond))
            continue
        others = slice(appended, appended + len(of_cond[0]))
        appended = others.stop
        looking = attention(q[rows], *(torch.cat([own[rows], own[others]], dim=1) for own in (k, v)))
        plain = part.reference.plain(cond)
        found.append(looking if plain == 0.0 else blend(looking, attention(*of_cond), plain))
    return torch.cat(found)


# Statistics of blocks, in two functions of the host's.


def behind_input(h: torch.Tensor, options: dict) -> torch.Tensor:
    """An input_block_patch."""
    return _adapted(h, options["block"], options)


def before_output(h: torch.Tensor, skip: torch.Tensor, options: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """An output_block_patch: the host asks before the block, so ``h`` comes from the one before it."""
    _, number = options["block"]
    return _adapted(h, ("output", number - 1) if number else ("middle", 0), options), skip


def _adapted(h: torch.Tensor, block: Block, options: dict) -> torch.Tensor:
    window: ReferenceWindow = options[KEY]
    part = window.statistics
    if part is None or block not in part.reference.blocks:
        return h
    reference, found = part.reference, []
    for cond, rows in window.rows(options, len(h)):
        own = h[rows]
        statistics = mean_and_deviation(own)
        if part.read_for(cond):
            strength = strength_at(part.strength, *own.shape[-2:], like=own)
            found.append(
                blend(
                    own,
                    adain(own, *part.others(cond, block, own, *statistics)),
                    strength * (1.0 - reference.plain(cond)),
                )
            )
        else:
            found.append(own)
        if part.written_for(cond):
            reference.keep(cond, block, *statistics)
    return torch.cat(found) if part.reads else h


def mean_and_deviation(h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each channel over the picture, ``(rows, channels, 1, 1)``, in float32."""
    variance, mean = torch.var_mean(h.float(), dim=(2, 3), keepdim=True, correction=0)
    return mean, variance.clamp(min=LEAST_VARIANCE).sqrt()


def adain(h: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """``h (rows, channels, height, width)`` with another mean and deviation."""
    own_mean, own_deviation = mean_and_deviation(h)
    return ((h.float() - own_mean) / own_deviation * deviation + mean).to(h.dtype)


def blend(first: torch.Tensor, second: torch.Tensor, share: float | torch.Tensor) -> torch.Tensor:
    """``share`` of the second."""
    if isinstance(share, float) and share == 1.0:
        return second
    return first * (1.0 - share) + second * share


def positions_of(strength: Strength, options: Mapping, like: torch.Tensor) -> float | torch.Tensor:
    """A strength for ``like (frames, positions, channels)``: a mask becomes ``(frames, positions, 1)``."""
    height, width = options["activations_shape"][-2:]
    value = strength_at(strength, height, width, like)
    return value.flatten(2).transpose(1, 2) if isinstance(value, torch.Tensor) else value


def _for_frames(kept: torch.Tensor, frames: int) -> torch.Tensor:
    """What a window of another length left behind: cut, or from the beginning again."""
    return kept if len(kept) == frames else kept[[i % len(kept) for i in range(frames)]]


def with_patches(options: Mapping, window: ReferenceWindow, wrap: Callable[[Callable], Callable]) -> dict[str, object]:
    """What to add to the transformer_options ``options`` for the UNet calls of ``window``.

    ``wrap`` is put around each function. The functions of other nodes run first. Layers whose self-attention another node
    replaces are not ours (``replaced``).
    """
    patches = dict(options.get("patches", {}))
    added: dict[str, object] = {KEY: window, "patches": patches, ALL_FRAMES_KEY: True}

    def add(name: str, function: Callable) -> None:
        patches[name] = [*patches.get(name, ()), wrap(function)]

    if window.attention is not None:
        add("attn1_patch", further_keys)
        if window.attention.reads:
            replaced = options.get("patches_replace", {})
            ours = dict.fromkeys(window.attention.reference.blocks, wrap(attend))
            added["patches_replace"] = {**replaced, "attn1": {**replaced.get("attn1", {}), **ours}}
    if window.statistics is not None:
        add("input_block_patch", behind_input)
        add("output_block_patch", before_output)
    return added


def replaced(options: Mapping) -> frozenset:
    """The self-attention layers, or whole blocks of them, that other nodes have replaced."""
    return frozenset(options.get("patches_replace", {}).get("attn1", {}))
