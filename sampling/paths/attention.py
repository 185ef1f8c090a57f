"""Attention that keeps an object in its box: spatial, to the text and within the picture, and temporal.

Qiu et al., "FreeTraj" (arXiv 2406.16863), and Ma et al., "TrailBlazer" (arXiv 2401.00896): attention
maps are strengthened inside a box that moves, and weakened between inside and outside. With m how far a place lies in the box of
an object in a frame (0..1) and c = 2 m - 1, this adds to the logits, and so multiplies the probabilities ahead of their sum:

* cross-attention of a place to a word of the object: ``strength * c``, for the positive prompt,
* self-attention of two places, and temporal attention of two frames at one place: ``strength * c c'``.

The papers add to or multiply the maps themselves, with numbers for one size of picture. Logits need none, and every object is a
term of its own, which any attention function can compute (``host/attention.py``).
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from ...host.attention import with_terms
from ...motion_models.network.call import CALL_KEY, FRAMES_KEY, MotionCall
from ...motion_models.network.features import FrameFeatures
from .path import memberships
from .words import Words

OVERRIDE = "optimized_attention_override"
PATCHES = ("attn1_patch", "attn2_patch")


def sides(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """1 inside of a box, -1 outside: ``(objects, frames, 4)`` -> ``(frames, objects, height, width)``."""
    return 2 * memberships(boxes, height, width).transpose(0, 1) - 1


def temporal_ties(boxes: torch.Tensor, strength: float, height: int, width: int) -> FrameFeatures:
    """``MotionInputs.ties`` for frames with ``boxes (objects, frames, 4)``, made for latents of ``height`` x ``width``."""
    return FrameFeatures(strength**0.5 * sides(boxes, height, width))


@dataclass(frozen=True, eq=False)
class SpatialAttention:
    """In one pass. ``boxes (objects, frames of the clip, 4)``; ``made`` keeps what a layer of one size asks for in each step."""

    boxes: torch.Tensor
    words: Words
    strength: float
    made: dict[tuple, torch.Tensor] = field(default_factory=dict)

    def with_ties(
        self, options: Mapping[str, Any], window: list[int], negatives: frozenset[int], size: torch.Size
    ) -> dict[str, object]:
        """``options``, and temporal attention that keeps to the boxes of the frames ``window``, which the call is of."""
        ties = temporal_ties(self.boxes[:, window], self.strength, *size)
        call = MotionCall.of(options)
        tied = replace(call, motion=tuple(inputs.tied(ties) for inputs in call.motion))
        return {**self.options(options, negatives, size), CALL_KEY: tied}

    def options(self, options: Mapping[str, Any], negatives: frozenset[int], size: torch.Size) -> dict[str, object]:
        """The entries of transformer_options for a call on latents of ``size``; ``negatives`` are places among its conds."""
        # Which attention of a block comes next, the host tells its patches, not its attention function. UNets on several
        # devices run in threads of their own.
        upcoming = threading.local()

        def patch(kind: str, n, context, value, _options):
            upcoming.kind = kind
            return n, context, value

        def attention(function: Callable, q, k, v, heads: int, *args, **kwargs) -> torch.Tensor:
            go_on = function if before is None else partial(before, function)
            told = kwargs.get("transformer_options") or {}
            kind: str = getattr(upcoming, "kind", "")
            upcoming.kind = ""
            plain = not kind or kwargs.get("skip_reshape") or told.get("original_shape", ())[2:] != list(size)
            terms = None if plain else self._terms(kind, q, k, told, negatives)
            if terms is None:
                return go_on(q, k, v, heads, *args, **kwargs)

            def attend(q, k, v, heads):
                return go_on(q, k, v, heads, *args, **kwargs)

            return with_terms(attend, (q, k, v), heads, *terms)

        before, patches = options.get(OVERRIDE), options.get("patches") or {}
        ours = {kind: [*patches.get(kind, ()), partial(patch, kind)] for kind in PATCHES}
        return {OVERRIDE: attention, "patches": {**patches, **ours}}

    def _terms(
        self, kind: str, q: torch.Tensor, k: torch.Tensor, options: Mapping[str, Any], negatives: frozenset[int]
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What is added for queries and keys ``(rows, tokens, objects)``; None where their places are not known.

        Other packs merge tokens, or attend to more than those of the frame.
        """
        frames: Mapping = options[FRAMES_KEY]
        window = frames["sub_idxs"] or list(range(frames["full_length"]))
        height, width = options["activations_shape"][2:]
        if q.shape[1] != height * width or len(q) % len(window):
            return None
        of_places = self._sides(window, height, width, q).repeat(len(q) // len(window), 1, 1)
        if kind == PATCHES[0]:
            ties = self.strength**0.5 * of_places
            return (ties, ties) if k.shape[1] == q.shape[1] else None
        of_words = self.words.among(k.shape[1])
        conds = options["cond_or_uncond"]
        if of_words is None or len(q) % len(conds):
            return None
        positive = torch.tensor([float(cond not in negatives) for cond in conds]).repeat_interleave(
            len(q) // len(conds)
        )
        return self.strength * of_places * positive.to(q)[:, None, None], of_words.to(q).expand(len(q), -1, -1)

    def _sides(self, window: list[int], height: int, width: int, like: torch.Tensor) -> torch.Tensor:
        """``(frames, places, objects)``"""
        key = (tuple(window), height, width, like.device, like.dtype)
        if key not in self.made:
            found = sides(self.boxes[:, window], height, width)
            self.made[key] = found.flatten(2).transpose(1, 2).to(like)
        return self.made[key]
