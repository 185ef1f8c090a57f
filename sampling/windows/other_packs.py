"""Packs that remember something between UNet calls, and windows, which make several calls of one step.

Such a pack tells calls apart by the host's ``uuid`` of a cond at most: each cond of each window has one of its own, the
same at every step (``conditioning.py``).
"""

import logging
from typing import Any

from ...host.context_windows import window_length
from ...host.extra_nodes import is_from
from ...host.told import Told
from ..feature import Call, Denoise, Predictions, Run

# Where the host's EasyCache keeps what it remembers of a run; and LazyCache, which looks at whole clips only.
CACHE_KEY, EASYCACHE = "easycache", "EasyCache"
# The host's module of Self-Attention Guidance, whose functions have no other mark.
SELF_ATTENTION_GUIDANCE = "nodes_sag"


class WindowsUnsupported(Told, ValueError):
    """Something on the MODEL that cannot work with context windows; the message says what to change."""


def check(run: Run) -> None:
    """Raise WindowsUnsupported for what would be wrong without a word, or break in mid-run, on a clip that is cut."""
    functions = run.model_options.get("sampler_post_cfg_function", ())
    if any(is_from(function, SELF_ATTENTION_GUIDANCE) for function in functions):
        raise WindowsUnsupported(
            "Self-Attention Guidance remembers the attention of one UNet call only, so with Context Options it would blur "
            "every window by the last one's frames. Remove Self-Attention Guidance (Perturbed-Attention Guidance of Custom "
            "CFG works with windows), or sample without Context Options."
        )
    if (length := window_length(run.model_options, run.frames)) is not None:
        logging.warning(
            "[AnimateDiff] The MODEL has ComfyUI's Context Windows and our Context Options: ComfyUI's windows of %d frames "
            "count, and ours are not used. Remove one of the two nodes.",
            length,
        )


def skips_calls(run: Run) -> bool:
    """Whether single UNet calls of a step may be left out."""
    holder: Any = run.model_options["transformer_options"].get(CACHE_KEY)
    return holder is not None and holder.name == EASYCACHE


def check_nothing_skips(run: Run) -> None:
    """Raise WindowsUnsupported where single windows of a step may not go through the UNet, which others look at."""
    if skips_calls(run):
        raise WindowsUnsupported(
            "EasyCache leaves out UNet calls of single context windows, which ContextRef lets the other windows look at. Remove "
            "EasyCache (LazyCache, which leaves out whole steps, works), or remove ContextRef from the context extras."
        )


class OneCacheEach:
    """A memory of its own for each window, where the host's EasyCache has one for all.

    EasyCache decides whether to skip a step by the change of the picture since the step before: with one memory it would
    compare different windows.
    """

    def __init__(self):
        self.holders: dict[tuple[int, ...], Any] = {}
        self.calls = 0

    def around_call(self, call: Call, then: Denoise) -> Predictions:
        holder = call.model_options["transformer_options"].get(CACHE_KEY)
        if holder is None or holder.name != EASYCACHE or call.window is None:
            return then(call)
        key = tuple(call.window)
        if key not in self.holders:
            own = self.holders[key] = holder.clone()
            own.start_t, own.end_t = holder.start_t, holder.end_t
        # as the host's wrapper does for the one it knows, at the start of each denoiser call
        self.holders[key].skip_current_step = False
        self.calls += 1
        made = then(call.with_options(**{CACHE_KEY: self.holders[key]}))
        # for the line in the log in which the host tells at the end how many steps were skipped
        share = sum(own.total_steps_skipped for own in self.holders.values()) / self.calls
        holder.total_steps_skipped = round(share * (call.step.index + 1))
        return made
