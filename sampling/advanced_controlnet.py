"""What Advanced-ControlNet reads from a MODEL, and the sampler wrapper that it wants on one."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from ..host import shared_dict
from .context_extras import context_ref, extras
from .context_extras.context_ref import ContextRef, RefKeyframe
from .context_extras.controls import PACK
from .strength.multival import Multival, combined
from .windows.context import Contexts
from .windows.schedules import ALL_FRAMES

# Names of the contract.
PARAMS = "ADE_params"
WRAPPER = "create_outer_sample_wrapper"
WRAPPER_KEY = "ACN_outer_sample_wrapper"


class Tune(dict):
    """The numbers of a tune, by name: ``attn_style_fidelity`` and so on."""

    @classmethod
    def of(cls, tune: context_ref.Tune) -> "Tune":
        return cls(asdict(tune))

    def create_dict(self) -> dict[str, float]:
        return dict(self)


class Keyframes(tuple[RefKeyframe, ...]):
    def create_list_of_dicts(self) -> list[dict[str, object]]:
        return [_keyframe(keyframe) for keyframe in self]


def _keyframe(keyframe: RefKeyframe) -> dict[str, object]:
    strength, mask = _strength_and_mask(keyframe.mult_multival)
    return {
        "start_percent": keyframe.start_percent,
        "guarantee_steps": keyframe.guarantee_steps,
        "inherit_missing": keyframe.inherit_missing,
        "strength": keyframe.mult * strength,
        "mask": mask,
        "tune": keyframe.tune and Tune.of(keyframe.tune),
        "mode": keyframe.mode,
    }


def _strength_and_mask(value: Multival | None) -> tuple[float, torch.Tensor | None]:
    value = combined(value, None)
    return (1.0, value) if isinstance(value, torch.Tensor) else (value, None)


@dataclass(frozen=True, eq=False)
class Reference:
    """What the user says of ContextRef. ``strength`` is 1 where there is a ``mask``."""

    tune: Tune
    keyframe: Keyframes
    strength: float = 1.0
    mask: torch.Tensor | None = None
    version: int = 1

    @classmethod
    def of(cls, asked: ContextRef) -> "Reference":
        return cls(Tune.of(asked.tune), Keyframes(asked.keyframes), *_strength_and_mask(asked.strength))


@dataclass(frozen=True)
class ContextExtras:
    context_ref: Reference | None = None
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


def attach(model, contexts: Contexts, asked: extras.ContextExtras) -> None:
    """Tell Advanced-ControlNet about the windows of ``model`` and their extras, and let it in where there are any.

    Call it behind ``add_wrapper_with_key`` of our own OUTER_SAMPLE wrapper, in which Advanced-ControlNet's has to run.
    """
    detach(model)
    reference = None if asked.context_ref is None else Reference.of(asked.context_ref)
    # Views Only makes no windows; the length that another pack gives it at run time made the first run differ from the
    # second.
    cut = bool(contexts) and contexts[0].windows.schedule != ALL_FRAMES
    length = contexts[0].windows.length if cut else None
    told = ContextExtras(reference, asked.naive_reuse)
    model.set_attachments(PARAMS, Params(ContextOptions(length, told)))
    wrapper: Any = shared_dict.entries_of(PACK).get(WRAPPER)
    if wrapper is not None and (length is not None or reference is not None):
        kind, key, function = wrapper
        model.add_wrapper_with_key(kind, key, function)


def detach(model) -> None:
    """Take from ``model`` what ``attach`` put on it."""
    model.remove_attachments(PARAMS)
    wrapper: Any = shared_dict.entries_of(PACK).get(WRAPPER)
    _, key, _ = wrapper or (None, WRAPPER_KEY, None)
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, key)
