"""Nodes that read files of models: they run again when such a file changes, and a file is read again only then."""

from collections.abc import Callable
from typing import TypeVar

from ..host import folders, remembered
from ..motion_models.files.beside import state_of
from .base import Node
from .sockets import FileCombo

T = TypeVar("T")


class FileNode(Node):
    """A node with inputs of ``sockets.file_of``. What is linked to one of them is not known in advance."""

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        combos = [entry for entry in cls.define_schema().inputs if isinstance(entry, FileCombo)]
        return tuple(_state(entry.key, inputs.get(entry.id)) for entry in combos)


def _state(key: str, name: object) -> tuple | None:
    try:
        path = folders.full_path(key, name) if isinstance(name, str) else None
    except (OSError, ValueError):  # running the node says what is wrong
        path = None
    if path is None:
        return None
    state = state_of(path)
    remembered.expect(path, state)
    return state


def read_once(kind: object, path: str, read: Callable[[], T]) -> T:
    """``read()``, or what it gave before, as long as somebody has that, the file ``path`` is the same, and ``kind`` too."""
    return remembered.read_once(kind, path, state_of(path), read)
