"""Layers that compute something else for a while: by an attribute of their own, so that no class and no other model is touched."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def forwards_replaced(layers: Iterable[nn.Module], replacement: Callable[[Any], Callable]) -> Iterator[None]:
    """Inside the ``with``, each of ``layers`` computes ``replacement(layer)``, made while it still has its own forward."""
    altered: list[Any] = list(layers)
    # another pack may have given a layer a forward of its own: that one is used, and put back
    before = [layer.__dict__.get("forward") for layer in altered]
    try:
        for layer in altered:
            layer.forward = replacement(layer)
        yield
    finally:
        for layer, own in zip(altered, before, strict=True):
            layer.__dict__.pop("forward", None)
            if own is not None:
                layer.forward = own
