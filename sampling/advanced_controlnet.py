"""What Advanced-ControlNet reads from a MODEL, and the sampler wrapper that it wants on one."""

from dataclasses import dataclass, field
from typing import Any

from comfy.patcher_extension import WrappersMP

from ..host import shared_dict
from .windows.context import Contexts
from .windows.schedules import ALL_FRAMES

# Names of the contract.
PACK = "ACN"
PARAMS = "ADE_params"
WRAPPER = "create_outer_sample_wrapper"
WRAPPER_KEY = "ACN_outer_sample_wrapper"


@dataclass(frozen=True)
class ContextExtras:
    context_ref: object | None = None
    naive_reuse: object | None = None


@dataclass(frozen=True)
class ContextOptions:
    """``context_length``: frames per window, None where the clip goes through the UNet in one."""

    context_length: int | None = None
    extras: ContextExtras = field(default_factory=ContextExtras)


@dataclass(frozen=True)
class Params:
    """The MODEL's attachment ``ADE_params``."""

    context_options: ContextOptions = field(default_factory=ContextOptions)


def attach(model, contexts: Contexts, extras: ContextExtras | None = None) -> None:
    """Tell Advanced-ControlNet about the windows of ``model``, and let it in where there are any.

    Call it behind ``add_wrapper_with_key`` of our own OUTER_SAMPLE wrapper, in which Advanced-ControlNet's has to run.
    """
    detach(model)
    extras = extras or ContextExtras()
    # Views Only makes no windows; the length that another pack gives it at run time made the first run differ from the
    # second.
    cut = bool(contexts) and contexts[0].windows.schedule != ALL_FRAMES
    length = contexts[0].windows.length if cut else None
    model.set_attachments(PARAMS, Params(ContextOptions(length, extras)))
    wrapper: Any = shared_dict.entries_of(PACK).get(WRAPPER)
    if wrapper is not None and (length is not None or extras.context_ref is not None):
        kind, key, function = wrapper
        model.add_wrapper_with_key(kind, key, function)


def detach(model) -> None:
    """Take from ``model`` what ``attach`` put on it."""
    model.remove_attachments(PARAMS)
    wrapper: Any = shared_dict.entries_of(PACK).get(WRAPPER)
    _, key, _ = wrapper or (None, WRAPPER_KEY, None)
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, key)
