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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch

from .errors import MotionModelFileError, outside_cause

# The attributes of a tensor that hold the functions which read its values. What is computed from the tensor has none.
READ, READ_PIECES = "_animatediff_read", "_animatediff_read_pieces"
Read = Callable[[], torch.Tensor]
ReadPieces = Callable[[], Iterator[torch.Tensor]]
PIECE = 1 << 22  # bytes: it stays in the processor's cache from being read to being cast


def stored(like: torch.Tensor, read: Read, read_pieces: ReadPieces | None = None) -> torch.Tensor:
    """A tensor that looks like ``like``, and whose values ``read`` gives, in memory of their own, or ``read_pieces`` bit by bit."""
    stands_in = like.view_as(like)
    setattr(stands_in, READ, read)
    if read_pieces is not None:
        setattr(stands_in, READ_PIECES, read_pieces)
    return stands_in


def values(tensor: torch.Tensor) -> torch.Tensor:
    """What ``tensor`` holds, read from its file if it lies there.

    Raises MotionModelFileError and, with a message that says what to do, MemoryError and OSErrors.
    """
    read: Read | None = getattr(tensor, READ, None)
    return tensor if read is None else read()


def pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor] | None:
    """What a ``tensor`` in a file holds, flat, in pieces one after the other, in memory that the next one reuses. Else None.

    Raises what ``values`` raises.
    """
    read: ReadPieces | None = getattr(tensor, READ_PIECES, None)
    return None if read is None else read()


def places(header: bytes) -> dict[str, int]:
    """Where in a .safetensors file with the ``header`` (without its length) each tensor begins, in bytes, by name."""
    begin = struct.calcsize("<Q") + len(header)
    entries = json.loads(header)
    return {name: begin + entry["data_offsets"][0] for name, entry in entries.items() if name != "__metadata__"}


def in_file(path: str, tensors: Mapping[str, torch.Tensor], offsets: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """``tensors``, which a reader has mapped from the .safetensors file ``path``, as ones that are read from it."""

    found = {}
    for name, like in tensors.items():
        place = path, offsets[name], like
        found[name] = stored(like, partial(_read, *place), partial(_read_pieces, *place))
    return found


def _read(path: str, offset: int, like: torch.Tensor) -> torch.Tensor:
    with _reading(path, offset) as fill:
        return fill(torch.empty(like.shape, dtype=like.dtype))


def _read_pieces(path: str, offset: int, like: torch.Tensor) -> Iterator[torch.Tensor]:
    with _reading(path, offset) as fill:
        memory = torch.empty(min(PIECE // like.element_size(), like.numel()), dtype=like.dtype)
        for begin in range(0, like.numel(), len(memory) or 1):
            yield fill(memory[: like.numel() - begin])


@contextmanager
def _reading(path: str, offset: int) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """A function that fills a tensor with what comes next in the file, from ``offset`` bytes on, and returns it."""
    name = os.path.basename(path)

    def fill(tensor: torch.Tensor) -> torch.Tensor:
        count = file.readinto(tensor.reshape(-1).view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
        if count != tensor.nbytes:
            raise MotionModelFileError(
                f"'{name}' became shorter while it was read. Wait until it is complete, and run again."
            )
        return tensor

    try:
        with open(path, "rb") as file:
            file.seek(offset)
            yield fill
    except MotionModelFileError:
        raise
    except Exception as error:
        raise outside_cause(name, error) or error from error
