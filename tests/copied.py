"""How many numbers of tensors are copied while something is done: a stand-in for what copies them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from torch.utils._python_dispatch import TorchDispatchMode

COPIES = ("aten::copy_", "aten::_to_copy", "aten::clone")


class Copied(TorchDispatchMode):
    """Counts the numbers that are copied from tensor to tensor. What is made of nothing, or read from a file, is no copy."""

    def __init__(self):
        super().__init__()
        self.numbers: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function._schema.name
        if name in COPIES and not result.is_meta:
            self.numbers[name] += result.numel()
        return result


def copied_by(work: Callable) -> tuple[int, object]:
    """How many numbers ``work()`` copies, and what it gives."""
    with Copied() as copied:
        result = work()
    return copied.numbers.total(), result


def size(network) -> int:
    """How many numbers a network has, buffers too."""
    return sum(value.numel() for value in network.state_dict().values())
