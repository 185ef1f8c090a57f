"""Tensors of a file that nobody has read yet: their names, shapes and dtypes are known, their values are read when they are needed.

Readers map .safetensors files into memory, where a tensor that is never looked at costs nothing. What is kept must not stay
mapped, though: Windows lets nobody replace a file that is, and one that is overwritten in its place changes the weights of a
model at work, or ends the process where it got shorter. Nor can the host pin such memory. So values that are kept are read
once, from the file straight into memory of their own. (Where the host has its own weights lie in their files, under dynamic
VRAM, so do ours: ``weights.as_weights``.)
"""

import json
import os
import struct
from collections.abc import Callable, Mapping

import torch

from .errors import MotionModelFileError, outside_cause

# The attribute of a tensor that holds the function which reads its values. What is computed from the tensor has none.
READ = "_animatediff_read"
Read = Callable[[], torch.Tensor]


def stored(like: torch.Tensor, read: Read) -> torch.Tensor:
    """A tensor that looks like ``like``, and whose values ``read`` gives, in memory of their own."""
    stands_in = like.view_as(like)
    setattr(stands_in, READ, read)
    return stands_in


def values(tensor: torch.Tensor) -> torch.Tensor:
    """What ``tensor`` holds, read from its file if it lies there.

    Raises MotionModelFileError and, with a message that says what to do, MemoryError and OSErrors.
    """
    read: Read | None = getattr(tensor, READ, None)
    return tensor if read is None else read()


def places(header: bytes) -> dict[str, int]:
    """Where in a .safetensors file with the ``header`` (without its length) each tensor begins, in bytes, by name."""
    begin = struct.calcsize("<Q") + len(header)
    entries = json.loads(header)
    return {name: begin + entry["data_offsets"][0] for name, entry in entries.items() if name != "__metadata__"}


def in_file(path: str, tensors: Mapping[str, torch.Tensor], offsets: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """``tensors``, which a reader has mapped from the .safetensors file ``path``, as ones that are read from it."""

    def reader(like: torch.Tensor, offset: int) -> Read:
        return lambda: _read(path, offset, like)

    return {name: stored(like, reader(like, offsets[name])) for name, like in tensors.items()}


def _read(path: str, offset: int, like: torch.Tensor) -> torch.Tensor:
    name = os.path.basename(path)
    try:
        taken = torch.empty(like.shape, dtype=like.dtype)
        with open(path, "rb") as file:
            file.seek(offset)
            count = file.readinto(taken.reshape(-1).view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
    except Exception as error:
        raise outside_cause(name, error) or error from error
    if count != like.nbytes:
        raise MotionModelFileError(
            f"'{name}' became shorter while it was read. Wait until it is complete, and run again."
        )
    return taken
