"""Self-attention of all frames to the keys and values of the clip's first frame.

``out_i = softmax(q_i k_0^T / sqrt(d)) v_0``: Khachatryan et al., "Text2Video-Zero" (arXiv 2303.13439), section 3.3;
UniCtrl (arXiv 2403.02332) calls it cross-frame self-attention control.

Works as the host's ``attn1_patch``, which changes what keys and values are computed from. So patches of other nodes keep
working, those that replace the attention itself too.
"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import torch
from comfy.patcher_extension import WrappersMP

from ...host.compiling import is_compiled
from ...motion_models.network.call import ALL_FRAMES_KEY, FRAMES_KEY
from ...motion_models.network.injection import check_unet
from ..animate import feature_of
from ..feature import Call, Run
from ..windows.conditioning import uuid_in_window
from ..windows.context import cut_by, extras_of
from ..windows.in_run import Windows

# (hidden states, source of keys, source of values, options) -> the three; each ``(clips * frames, tokens, channels)``.
AttentionPatch = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, dict], tuple[torch.Tensor, torch.Tensor, torch.Tensor]
]
ATTN1_PATCH = "attn1_patch"


def check_attention(run: Run, what: str) -> None:
    """Raise, in words, where self-attention cannot be changed; ``what`` is the node's name."""
    check_unet(run.patcher.get_model_object("diffusion_model"), f"{what} is")
    if is_compiled(run.model_options):
        raise ValueError(
            f"{what} changes the UNet's self-attention from step to step, which compiled code does not follow. Take "
            f"TorchCompileModel off the MODEL, or {what}."
        )
    windows = feature_of(run.patcher, Windows)
    contexts = windows.contexts if windows is not None and cut_by(windows.contexts, run.frames) else ()
    if extras_of(contexts).context_ref is not None:
        raise ValueError(
            f"{what} lets all frames look at the first one, ContextRef lets windows look at each other: self-attention can do "
            f"one of the two. Remove {what}, or ContextRef from the context extras (NaiveReuse goes with it)."
        )


def attention_patches(options: Mapping[str, Any], patch: AttentionPatch) -> dict[str, object]:
    """The entries of transformer_options with one more attn1_patch, behind those that are there."""
    patches = options.get("patches") or {}
    return {"patches": {**patches, ATTN1_PATCH: [*patches.get(ATTN1_PATCH, ()), patch]}, ALL_FRAMES_KEY: True}


def unet_wrappers(options: Mapping[str, Any], key: str, wrapper: Callable) -> dict[str, object]:
    """The entry of transformer_options with a function around each call of the UNet, inside of those that are there."""
    wrappers = options.get("wrappers") or {}
    kind = WrappersMP.APPLY_MODEL
    return {"wrappers": {**wrappers, kind: {**wrappers.get(kind, {}), key: [wrapper]}}}


def place(options: Mapping) -> tuple:
    """Which self-attention of the UNet a patch is called for."""
    return options.get("block"), options.get("block_index")


class FirstFrame:
    """What the clip's first frame looks like in each self-attention, for the windows that do not hold it.

    Lasts for a run, and knows one step at a time.
    """

    def __init__(self):
        self.step: int | None = None
        self.conds: list[UUID] = []
        self.seen: dict[tuple, tuple[torch.Tensor, torch.Tensor]] = {}

    def begin(self, call: Call) -> None:
        """Before each denoiser call. The host's Context Windows make several of them in a step, one for each window."""
        if call.window is None or call.step.index != self.step:
            self.seen.clear()
            self.step = call.step.index
        self.conds = [entry["uuid"] for cond in call.conds for entry in cond or ()]

    def sources(
        self, context: torch.Tensor, value: torch.Tensor, options: Mapping, strength: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What keys and values of every frame come from: its own, and the first frame's as far as ``strength`` says.

        Keys and values are linear in it, so they are mixed alike. A window whose turn comes before that with the clip's
        first frame takes its own first frame.
        """
        frames: Mapping = options[FRAMES_KEY]
        window = frames["sub_idxs"] or list(range(frames["full_length"]))
        if len(context) % len(window):
            raise ValueError(
                "Another node on the MODEL takes the frames of the clip apart inside self-attention, so which of them is the "
                "first cannot be told. Take off that node (tiling or batching), or UniCtrl and Text2Video-Zero."
            )
        own = tuple(source.unflatten(0, (-1, len(window))) for source in (context, value))
        at = window.index(0) if 0 in window else 0
        clips = own[0].shape[0]
        # How many conds are evaluated together depends on the memory that is free, and in windows they have other names.
        names = {uuid_in_window(cond, window): cond for cond in self.conds}
        conds = [names.get(cond, cond) for cond in options["uuids"]]
        mixed = []
        for clip in range(clips):
            # more clips than conds: tiles
            key = (*place(options), conds[clip * len(conds) // clips], clip % max(1, clips // len(conds)))
            first = own[0][clip, at], own[1][clip, at]
            if 0 in window:
                self.seen[key] = first
            first = self.seen.get(key, first)
            mixed.append(
                [
                    _mixed(source[clip], of_first.to(source), strength)
                    for source, of_first in zip(own, first, strict=True)
                ]
            )
        keys, values = (torch.cat(sources) for sources in zip(*mixed, strict=True))
        return keys, values


def _mixed(own: torch.Tensor, first: torch.Tensor, strength: float) -> torch.Tensor:
    """``own (frames, tokens, channels)`` and ``first (tokens, channels)``."""
    return first.expand_as(own) if strength == 1.0 else torch.lerp(own, first.expand_as(own), strength)
