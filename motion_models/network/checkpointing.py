"""Gradients through a UNet in little memory: the inside of its layers is computed again in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174), section 4.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import nn
from torch.utils.checkpoint import checkpoint

from .forwards import forwards_replaced
from .injection import MotionSlot


@contextmanager
def checkpointed(unet: nn.Module, again: Callable[[], AbstractContextManager] = nullcontext) -> Iterator[None]:
    """Inside the ``with``, the layers of ``unet`` keep their inputs only; the rest is computed again for the gradient.

    ``again`` makes what a layer is computed again in, which is when the ``with`` may be over. Only these very layers are
    altered, by an attribute of their own.

    Non-reentrant: the reentrant kind returns no gradients to weights behind a frozen input, which is why training
    with the official script learned nothing with checkpointing on (guoyww/AnimateDiff#128).
    """
    layers = [layer for layer in unet.modules() if isinstance(layer, (ResBlock, SpatialTransformer, MotionSlot))]
    with forwards_replaced(layers, lambda layer: _checkpointed(layer.forward, again)):
        yield


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
