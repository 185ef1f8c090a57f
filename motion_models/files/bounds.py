"""How much a file may hold to be read at all, so that reading and refusing take time in proportion to its size.

The largest motion models hold fewer than 1,000 tensors, whole checkpoints with the state of their training 10,000.
"""

import os
import zipfile
from collections.abc import Mapping

import torch

from .errors import MotionModelFileError

MAX_ENTRIES = 50_000  # tensors, and whatever else stands beside them
MAX_DEPTH = 20  # dictionaries in dictionaries
MAX_NAME = 500  # characters
MAX_HEADER = 100 << 20  # bytes; safetensors' own limit
MAX_PICKLE = 16 << 20  # bytes of a pickle without its tensors
ZIP_END = 98  # bytes of the records at the end of a zip archive: 56 (large ones only), 20, 22
MAX_GROWTH = 10  # tensors may claim so many times the size of their file: one storage can be several tensors


def check_header(name: str, header: bytes) -> None:
    """Raise MotionModelFileError if the header of a safetensors file lists too many tensors.

    This and check_archive come before the file is read: readers take a minute for what is refused here in a second.
    """
    if header.count(b'"data_offsets"') > MAX_ENTRIES:
        raise _too_many(name)


def check_archive(path: str) -> None:
    """Raise MotionModelFileError if a pickle of PyTorch, which is a zip archive, holds too many tensors, or too large ones."""
    name = os.path.basename(path)
    if _records(path) > MAX_ENTRIES:
        raise _too_many(name)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile:  # from before PyTorch 1.6, or damaged
        return
    if sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl")) > MAX_PICKLE:
        raise MotionModelFileError(
            f"'{name}' is no motion model: its list of contents alone takes more than {MAX_PICKLE >> 20} MB. Use another file."
        )
    _check_growth(path, sum(entry.file_size for entry in entries))


def _records(path: str) -> int:
    """How many records a zip archive says to have, at its very end; 0 if it says nothing. zipfile reads every one first."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - ZIP_END))
        end = file.read()
    large, small = end.rfind(b"PK\6\6"), end.rfind(b"PK\5\6")
    if large >= 0 and len(end) >= large + 40:
        return int.from_bytes(end[large + 32 : large + 40], "little")
    return int.from_bytes(end[small + 10 : small + 12], "little") if small >= 0 else 0


def flattened(name: str, content: Mapping) -> dict[str, torch.Tensor]:
    """The tensors of nested dictionaries, their names joined by dots; everything else is left out.

    Raises MotionModelFileError for too many entries: dictionaries that hold each other several times can be endless.
    """
    tensors: dict[str, torch.Tensor] = {}
    visited = 0

    def visit(entries: Mapping, prefix: str, depth: int) -> None:
        nonlocal visited
        if depth > MAX_DEPTH:
            raise MotionModelFileError(
                f"'{name}' is no motion model: its dictionaries lie more than {MAX_DEPTH} deep in each other. Use another file."
            )
        for key, value in entries.items():
            visited += 1
            if visited > MAX_ENTRIES:
                raise _too_many(name)
            if isinstance(value, torch.Tensor):
                tensors[f"{prefix}{key}"] = value
            elif isinstance(value, dict):
                visit(value, f"{prefix}{key}.", depth + 1)

    visit(content, "", 1)
    return tensors


def check_tensors(path: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise MotionModelFileError for names that no message could show, and tensors larger than their file."""
    name = os.path.basename(path)
    for key in tensors:
        if len(key) > MAX_NAME or not key.isprintable():
            raise MotionModelFileError(
                f"'{name}' is no motion model: a tensor's name is longer than {MAX_NAME} characters or no text "
                f"({key[:40]!r}…). Use another file."
            )
    _check_growth(path, sum(value.numel() * value.element_size() for value in tensors.values()))


def _too_many(name: str) -> MotionModelFileError:
    return MotionModelFileError(
        f"'{name}' is no motion model: it holds more than {MAX_ENTRIES:,} tensors or other entries; motion models have fewer "
        "than 1,000. Use another file."
    )


def _check_growth(path: str, claimed: int) -> None:
    size = os.path.getsize(path)
    if claimed > MAX_GROWTH * size:
        raise MotionModelFileError(
            f"'{os.path.basename(path)}' cannot be read: its tensors would take {claimed / 1e9:,.1f} GB, but the file has only "
            f"{size / 1e6:,.1f} MB. It is damaged, or was made to fill the memory: use another file."
        )
