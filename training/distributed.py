"""One training on several processes: several GPUs, several machines (``torch.distributed``). On one process all of this does nothing.

Every process draws the same batch from the same chance, and takes its share of it. So all of them together do what one process
does with the whole batch, and a training can go on with another number of them.

Of LoRAs each process holds all weights, and the gradients are averaged behind the backward pass (data parallelism). That is
what PyTorch's DistributedDataParallel does (Li et al., arXiv 2006.15704) but for one thing: it begins to average while the backward pass is
still under way, where a process that is stopped or runs out of memory would leave the others waiting for ever. Here they are asked first.
A LoRA's gradients are a few MB, so there is next to nothing to gain from beginning sooner. Of motion modules each process
holds a part of the weights: ``spread.py``.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from ..host import training as host
from .place import Place, here, standing
from .settings import TrainingFailed

# The first process may measure, draw and save for long while the others wait. One that dies is noticed by torchrun at once.
TIMEOUT = timedelta(days=1)
BUCKET = 1 << 24  # numbers that are averaged together: 64 MB
# What may end a training of which something is left. It ends in all processes, whichever it came up in.
TROUBLES = (host.Stopped, host.OutOfMemory)

T = TypeVar("T")


@contextmanager
def commanded() -> Iterator[Place]:
    """Inside the ``with``, trainings are those of all processes that torchrun has started; of this one, if it has not."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count > 1:
        on_gpu = host.training_device().type == "cuda"
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    with standing(Place(int(os.environ.get("RANK", 0)), count, commanded=True)) as place:
        yield place
    if count > 1:  # not behind an error: it could wait for processes that know nothing of that
        dist.destroy_process_group()


def share(whole: Any) -> Any:
    """What this process takes of a list or tensor with one entry for each clip of the batch."""
    if here().count == 1:
        return whole
    size = len(whole) // here().count
    return whole[here().rank * size : (here().rank + 1) * size]


def averaged(
    check: Callable[[], None],
    compute: Callable[[], torch.Tensor],
    parameters: list[torch.nn.Parameter],
    spread: bool = False,
) -> torch.Tensor:
    """The loss that ``compute`` gives, and the gradients that it leaves in ``parameters``: the means over all processes.

    Raises what one of TROUBLES ``check`` or ``compute`` raises in any of them. With weights that are ``spread`` no process gets
    through ``compute`` without the others, and its gradients are means already: there Stop waits for the next step, and
    TrainingFailed is raised where memory runs out.
    """
    if here().count == 1:
        check()
        return compute()
    return _in_parts(check, compute) if spread else _in_copies(check, compute, parameters)


def _in_copies(check: Callable, compute: Callable, parameters: list[torch.nn.Parameter]) -> torch.Tensor:
    trouble, loss = None, 0.0
    try:
        check()
        loss = compute().item()
    except TROUBLES as error:
        trouble = error
    mean = _told(loss, trouble)
    _average([parameter.grad for parameter in parameters if parameter.grad is not None])
    return mean


def _in_parts(check: Callable, compute: Callable) -> torch.Tensor:
    trouble = None
    try:
        check()
    except TROUBLES as error:
        trouble = error
    _told(0.0, trouble)
    try:
        with _uninterrupted():
            loss = compute().item()
    except host.OutOfMemory as error:
        raise TrainingFailed(
            "Memory ran out in one of the processes that have parts of the weights, and none can go on without it. Lower batch, "
            "frames, or the width and height of the clips; go_on of Training Checkpoints goes on from the last checkpoint."
        ) from error
    return _told(loss, None)


_waiting: list[Callable[[], None]] | None = None  # for the end of what must not be interrupted
_stopped = False  # a training has been, and what was trained is being saved


def _told(loss: float, trouble: BaseException | None) -> torch.Tensor:
    """The mean of all losses. Raises the trouble of any process."""
    global _stopped
    told = torch.tensor([loss, *(float(isinstance(trouble, kind)) for kind in TROUBLES)])
    dist.all_reduce(told)  # on the CPU: GPUs that wait are kept busy
    for kind, found in zip(TROUBLES, told[1:].tolist(), strict=True):
        if found:
            if kind is host.Stopped:
                # Each process is told to stop at a time of its own. The first to hear of it has spoken for all.
                _stopped = True
                host.forget_stop()
            raise kind()
    _stopped = False
    return told[0] / here().count


def _average(tensors: list[torch.Tensor]) -> None:
    """In their place, many at a time."""
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.view(-1) for tensor in bucket])
        dist.all_reduce(flat)
        flat /= here().count
        for tensor, mean in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def _buckets(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    for tensor in tensors:
        if bucket and sum(map(torch.numel, bucket)) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@contextmanager
def _uninterrupted() -> Iterator[None]:
    global _waiting
    _waiting = []
    try:
        yield
    finally:
        calls, _waiting = _waiting, None
        for call in calls:
            call()


def interrupt(call: Callable[[], None]) -> None:
    """Call what stops the host; in a step that no process must leave alone, at its end; not once another process has stopped all."""
    if _stopped:
        return
    if _waiting is None:
        call()
    else:
        _waiting.append(call)


def in_turns(first: bool, run: Callable[[], None]) -> None:
    """Call ``run`` in those processes that are ``first``, and then in the others."""
    if first:
        run()
    _wait_for_all()
    if not first:
        run()


def _wait_for_all() -> None:
    if here().count > 1:
        dist.all_reduce(torch.zeros(()))  # on the CPU: GPUs that wait are kept busy


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` returns in the first process, for all of them; it is called there only."""
    if here().count == 1:
        return make()
    told: list[Any] = [None]
    if here().first:
        told[0] = make()
    dist.broadcast_object_list(told)
    return told[0]


def difference(value: T) -> tuple[int, T, T] | None:
    """The first process to which ``value`` is something else than to process 0, what it is there, and what it is to process 0."""
    if here().count == 1:
        return None
    values: list[Any] = [None] * here().count
    dist.all_gather_object(values, value)
    return next(((rank, other, values[0]) for rank, other in enumerate(values) if other != values[0]), None)
