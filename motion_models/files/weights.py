"""Tensors of a file -> the weights of a network, each of them touched once."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from ...host.memory import let_go_of_earlier_prompts
from ...host.patcher import weight_dtype
from ..layouts import TABLE, Tensors
from .numbers import impossible, refuse
from .stored import pieces, values

# From the name of a tensor and its values to other ones.
Change = Callable[[str, torch.Tensor], torch.Tensor]


def dtype_of(name: str) -> torch.dtype:
    """That of the weight ``name`` in a network: position tables are float32, the rest is as the host has its UNets."""
    return torch.float32 if name.endswith(TABLE) else weight_dtype()


def as_weights(file_name: str, tensors: Tensors, change: Change | None = None, mapped: bool = False) -> Tensors:
    """The tensors of a file as the weights of a network, in their dtypes there; ``tensors`` is emptied.

    One is read, checked, changed and cast into its place, and what it came from let go of, before the next one is read.
    What needs no cast is not copied. Cast here, not by the layers: some of the host's layers adopt the dtype of what they
    are given. ``mapped``: what need not be cast is left in its file, as the host leaves its own.

    Raises MotionModelFileError if one of them holds anything but finite numbers, and what ``stored.values`` raises.
    """
    let_go_of_earlier_prompts()
    weights: Tensors = {}
    found: dict[str, str] = {}
    count, taken = len(tensors), set[int]()
    for name in list(tensors):
        tensor = tensors.pop(name)
        dtype = dtype_of(name)
        read = pieces(tensor) if change is None and tensor.is_floating_point() and tensor.dtype != dtype else None
        if read is not None:
            value, what = _cast(read, tensor.shape, dtype)
        else:
            value = tensor if mapped and tensor.dtype == dtype and change is None else values(tensor)
            what = impossible(value)
        if what is not None:
            found[name] = what
            continue
        if change is not None:
            value = change(name, value)
        weights[name] = _own(value.to(dtype), taken)
    refuse(file_name, found, count)
    return weights


def _cast(read: Iterator[torch.Tensor], shape: torch.Size, dtype: torch.dtype) -> tuple[torch.Tensor, str | None]:
    """A tensor ``read`` in pieces, cast to ``dtype``, and what is wrong with its values; it is never there whole as it was."""
    made = torch.empty(shape, dtype=dtype)
    left = made.view(-1)
    for piece in read:
        if (what := impossible(piece)) is not None:
            return made, what
        left[: len(piece)].copy_(piece)
        left = left[len(piece) :]
    return made, None


def _own(value: torch.Tensor, taken: set[int]) -> torch.Tensor:
    """``value``, or a copy if its memory holds something else too: layers that share it could not be told apart."""
    value = value.contiguous()
    storage = value.untyped_storage()
    if storage.nbytes() != value.nbytes or storage.data_ptr() in taken:
        value = value.clone()
        storage = value.untyped_storage()
    if value.nbytes:
        taken.add(storage.data_ptr())
    return value


def network_of(build: Callable[[], nn.Module], weights: Tensors) -> nn.Module:
    """The network that ``build`` makes, with ``weights`` for its own, which must be all that its state dict has.

    It takes them over; memory is reserved for no other ones.
    """
    with torch.device("meta"):  # no memory either for what it is born with
        network = build()
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)
