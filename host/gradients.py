"""Gradients through the host's own networks while it samples, which it does in inference mode.

Tensors made in inference mode, as the host's weights are, cannot be kept for a backward pass. A copy can, and so can what
is computed of them. The copies here are of one layer at a time, so a checkpointed network needs no second set of weights.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# What the host hands these as weights may lie in memory that the next layer's weights are moved into.
WITH_WEIGHTS = frozenset(
    {
        functional.linear,
        functional.conv1d,
        functional.conv2d,
        functional.conv3d,
        functional.group_norm,
        functional.layer_norm,
    }
)


class CopiesOfConstants(TorchFunctionMode):
    """Where gradients flow, operations get copies of the constants that they could not keep, or not as they are."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_grad_enabled() and any(_requires_grad(value) for value in (*args, *kwargs.values())):
            first, rest = args[:1], args[1:]
            weights = func in WITH_WEIGHTS
            args = (*(_owned(value, False) for value in first), *(_owned(value, weights) for value in rest))
            kwargs = {name: _owned(value, weights) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _requires_grad(value) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_requires_grad(one) for one in value)
    return isinstance(value, torch.Tensor) and value.requires_grad and not value.is_inference()


def _owned(value, weight: bool):
    if isinstance(value, (list, tuple)):
        return type(value)(_owned(one, weight) for one in value) if type(value) in (list, tuple) else value
    if isinstance(value, torch.Tensor) and (value.is_inference() or (weight and not value.requires_grad)):
        return value.detach().clone()
    return value


@contextmanager
def gradients() -> Iterator[None]:
    """Inside the ``with``, gradients flow through the host's networks, and of nothing but what is made to require them."""
    with torch.inference_mode(False), torch.enable_grad(), CopiesOfConstants():
        yield


def differentiable(options: dict) -> dict:
    """transformer_options with an attention function that has a backward pass everywhere."""

    def attention(_function: Callable, *args, **kwargs):
        return attention_pytorch(*args, **kwargs)

    # sage attention has none, flash attention none on older cards
    return {**options, "optimized_attention_override": attention}
