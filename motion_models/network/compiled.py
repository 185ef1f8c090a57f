"""Motion modules inside of what torch.compile makes of a UNet.

Compiled code takes for granted what it once found in a call's options, as the host's node drops all guards on them. So a
slot is one operator in it, ``animatediff_next::motion_slot``, of which the compiler knows the shape of its result only:
when it runs, it looks up the UNet call under way and computes as without a compiler. Its one constant is the place of the
slot in the UNet; the module there, its weights, and all that MotionInputs say may change between calls.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, cached_property
from typing import Any

import torch
from torch import nn

from .injection import MotionSlot, slots

NAME = "animatediff_next::motion_slot"


class UNetCall:
    """A call of ``unet`` with these transformer_options."""

    def __init__(self, unet: nn.Module, options: Mapping[str, Any]):
        self.unet = unet
        self.options = options

    @cached_property
    def slots(self) -> tuple[MotionSlot, ...]:
        return tuple(slots(self.unet))


# That of this thread: the host gives each device a thread of its own.
_under_way: ContextVar[UNetCall] = ContextVar("animatediff_unet_call")


@contextmanager
def unet_call(unet: nn.Module, options: Mapping[str, Any]) -> Iterator[None]:
    """Inside of it, compiled slots serve a call of ``unet`` with these transformer_options."""
    before = _under_way.set(UNetCall(unet, options))
    try:
        yield
    finally:
        _under_way.reset(before)


def run_in_place(x: torch.Tensor, place: int) -> torch.Tensor:
    """What the slot at ``place`` of the UNet under way makes of ``x``."""
    call = _under_way.get()
    return call.slots[place].here(x, call.options)


@cache
def operator() -> Callable[[torch.Tensor, int], torch.Tensor] | None:
    """``run_in_place`` as one operator of compiled code; None where PyTorch is older than 2.4.

    Made when it is first needed.
    """
    if not hasattr(torch.library, "custom_op"):
        return None
    # what runs in it is another computation with each call, so it cannot be recorded and played again
    unsafe = getattr(torch.Tag, "cudagraph_unsafe", None)
    defined = torch.library.custom_op(
        NAME,
        _of_its_own,
        mutates_args=(),
        schema="(Tensor x, int place) -> Tensor",
        tags=[] if unsafe is None else [unsafe],
    )
    defined.register_fake(lambda x, place: torch.empty_like(x))
    return torch.ops.animatediff_next.motion_slot.default


def _of_its_own(x: torch.Tensor, place: int) -> torch.Tensor:
    """``run_in_place``, laid out as was foretold: in memory of its own, with the strides of ``x``."""
    y = run_in_place(x, place)
    if y is x or y.stride() != torch.empty_like(x, device="meta").stride():
        return torch.empty_like(x).copy_(y)
    return y
