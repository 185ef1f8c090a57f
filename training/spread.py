"""The weights of motion modules spread over the processes of a training: each holds a part of every tensor.

Fully sharded data parallelism (Zhao et al., arXiv 2304.11277), by PyTorch's ``fully_shard``. The weights of a module are put together
when the UNet comes to it, and its gradients averaged and taken apart behind it. So weights, gradients, optimiser and the copy to
go back to take an n-th of the memory in each of n processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .place import here

if TYPE_CHECKING:  # else only where they are used: ComfyUI starts sooner
    from torch.distributed.fsdp import FSDPModule


def spread(modules: Iterable[nn.Module], device: torch.device) -> list[FSDPModule]:
    """Spread the weights of ``modules``, which are on ``device`` and equal in all processes; none if there is only one."""
    if here().count == 1:
        return []
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (here().count,))
    return [fully_shard(module, mesh=mesh, reshard_after_forward=True) for module in modules]


@contextmanager
def put_together(modules: list[FSDPModule]) -> Iterator[None]:
    """Inside the ``with``, which all processes enter, each of them has all weights of ``modules`` and can compute by itself."""
    for module in modules:
        module.set_reshard_after_forward(False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.set_reshard_after_forward(True)
            module.reshard()


def _is_spread(value: Any) -> bool:
    if here().count == 1:
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of ``tensor``, in the same memory; all of one that is not spread."""
    return tensor.detach().to_local() if _is_spread(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def full(tensor: Any) -> Any:
    """All of a tensor that is spread, in all processes. Anything else as it is."""
    return tensor.full_tensor() if _is_spread(tensor) else tensor


def whole(value: Any, like: Any = None) -> Any:
    """All of a tensor that is spread, in main memory of the first process; the others help. Anything else as it is.

    ``like``: a tensor that is spread, of which ``value`` is for this process what ``local`` gives.
    """
    if _is_spread(like):
        from torch.distributed.tensor import DTensor

        value = DTensor.from_local(value, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())
    if not _is_spread(value):
        return value
    found = full(value)
    return found.cpu() if here().first else None


def copied(tensor: torch.Tensor) -> Any:
    """``whole``, and never the same memory."""
    return whole(tensor.detach()) if _is_spread(tensor) else tensor.detach().to("cpu", copy=True)


def part_of(value: Any, like: Any) -> Any:
    """The part of a whole tensor that belongs to ``like``; ``value`` as it is, if they differ in shape or ``like`` is not spread."""
    if not _is_spread(like) or not isinstance(value, torch.Tensor) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def whole_state(optimizer: torch.optim.Optimizer) -> dict:
    """Its ``state_dict``, with ``whole`` tensors."""
    state = optimizer.state_dict()
    return {**state, "state": {i: {name: whole(v) for name, v in of.items()} for i, of in state["state"].items()}}


def spread_state(state: dict, parameters: list[nn.Parameter]) -> dict:
    """The reverse of ``whole_state``, for an optimiser of ``parameters``."""
    parts = {i: {name: part_of(v, parameters[i]) for name, v in of.items()} for i, of in state["state"].items()}
    return {**state, "state": parts}
