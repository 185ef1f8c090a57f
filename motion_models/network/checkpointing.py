"""Gradients through a UNet in little memory: the inside of its layers is computed again in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174), section 4.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from comfy.ldm.modules.attention import GEGLU, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, Upsample
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .forwards import forwards_replaced
from .injection import MotionSlot
from .temporal import GEGLU as MotionGEGLU


@contextmanager
def checkpointed(
    unet: nn.Module, again: Callable[[], AbstractContextManager] = nullcontext, but_last: bool = False
) -> Iterator[None]:
    """Inside the ``with``, the layers of ``unet`` keep their inputs only; the rest is computed again for the gradient.

    ``again`` makes what a layer is computed again in, which is when the ``with`` may be over. ``but_last``: the last layer keeps
    what is inside. Where the gradient comes from the UNet's output, that would be computed again at once, so it takes no
    memory. Only these very layers are altered, by an attribute of their own.

    Non-reentrant: the reentrant kind returns no gradients to weights behind a frozen input, which is why training
    with the official script learned nothing with checkpointing on (guoyww/AnimateDiff#128).
    """
    pieces = [piece for layer in unet.modules() for piece in _pieces(layer)]
    last = pieces[-1:] if but_last else []  # the blocks of a UNet are in their order
    with (
        forwards_replaced(
            pieces[: len(pieces) - len(last)], lambda layer: _checkpointed(_in_little_memory(layer), again)
        ),
        forwards_replaced(last, _in_little_memory),
    ):
        yield


def _pieces(layer: nn.Module) -> list[nn.Module]:
    """What of ``layer`` keeps its input only.

    What PyTorch computes again ends with the last tensor that the gradient needs. A convolution needs its input and not its
    result, so the halves of a residual block, each of which ends with one, cost the memory of what lies between them and next to
    no time.
    """
    if isinstance(layer, (SpatialTransformer, MotionSlot, Upsample)):
        return [layer]
    if isinstance(layer, ResBlock):
        skip = [] if isinstance(layer.skip_connection, nn.Identity) else [layer.skip_connection]
        return [layer.in_layers, layer.out_layers, *skip]
    return []


PARTS = 8  # that the gradient of a gate is computed in


class Gated(torch.autograd.Function):
    """``value * gelu(gate)`` of the halves of ``x``, of which ``x`` alone is kept; autograd keeps the gelu as well."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(x)
        value, gate = x.chunk(2, dim=-1)
        return functional.gelu(gate).mul_(value)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = context.saved_tensors
        # In the place of x, a part at a time: it is the largest tensor of a layer, and this is where memory is highest.
        parts = 1 if x.device.type == "cpu" else PARTS  # a CPU rounds the ends of parts differently
        for part, of_result in zip(x.chunk(parts), gradient.chunk(parts), strict=True):
            value, gate = part.chunk(2, dim=-1)
            of_value = functional.gelu(gate).mul_(of_result)
            torch.ops.aten.gelu_backward.grad_input(of_result * value, gate, grad_input=gate)
            value.copy_(of_value)
        return x


def _in_little_memory(layer: nn.Module) -> Callable:
    """The forward of ``layer``, with gates that keep less."""
    forward = layer.forward
    inside = layer.motion[0] if isinstance(layer, MotionSlot) else layer
    gates = [one for one in inside.modules() if isinstance(one, (GEGLU, MotionGEGLU))]

    def run(*args: Any, **kwargs: Any):
        with forwards_replaced(gates, lambda gate: lambda x: gated(gate.proj(x))):
            return forward(*args, **kwargs)

    return run if gates else forward


def gated(x: torch.Tensor) -> torch.Tensor:
    return Gated.apply(x)  # pyright: ignore[reportReturnType]


def _checkpointed(forward: Callable, again: Callable[[], AbstractContextManager]) -> Callable:
    def contexts():
        return nullcontext(), again()

    def run(*args: Any, **kwargs: Any):
        raised: list[BaseException] = []
        over = False

        def inside(*args: Any, **kwargs: Any):
            try:
                return forward(*args, **kwargs)
            except BaseException as error:
                if over:
                    raise  # the layer is being computed again, and this is how PyTorch ends that
                raised.append(error)

        # the UNet goes on writing into transformer_options, such as which block it is at
        args, kwargs = tuple(map(_kept, args)), {name: _kept(value) for name, value in kwargs.items()}
        # Without an exception passing through, which would leave PyTorch noting for this layer what others save.
        result = checkpoint(inside, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts, **kwargs)
        over = True
        if raised:
            raise raised.pop()
        return result

    return run


def _kept(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_inference():
        return value.clone()  # they cannot be kept for a backward pass
    return dict(value) if isinstance(value, dict) else value
