"""What was made of videos and captions, kept on disk: a safetensors file for each, named by all that it depends on."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import safetensors
import safetensors.torch
import torch

from ...host import folders
from ...host.told import Told
from ...host.writing import whole_file

VERSION = 1  # raised when the same key would mean another content
MOST_BYTES = 20 << 30
NOTE = "json"  # the entry of a file's metadata that holds what is no tensor

Kept = tuple[dict[str, torch.Tensor], Any]


class GoneAgain(Told, RuntimeError):
    """A file of the cache that was there a moment ago; the message says what to do."""


class Cache:
    """Files in the folder of the host's user files. What was not used for longest goes when there are more than ``most`` bytes."""

    def __init__(self, most: int = MOST_BYTES):
        self.folder, self.most = folders.cache_folder("clips"), most
        self.used: set[str] = set()

    def path(self, kind: str, *key: object) -> str:
        """Where the thing of this ``kind`` ("latents", "text" …) that depends on ``key`` is, or will be."""
        name = hashlib.sha256(json.dumps([VERSION, kind, *key]).encode("utf-8", "surrogatepass")).hexdigest()[:40]
        return os.path.join(self.folder, f"{kind}-{name}.safetensors")

    def load(self, path: str) -> Kept | None:
        """The tensors, which stay on disk until they are read, and the note; None if there is nothing, or a damaged file."""
        try:
            with safetensors.safe_open(path, "pt") as file:
                note = json.loads((file.metadata() or {}).get(NOTE, "null"))
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            os.utime(path)
        except (OSError, ValueError, safetensors.SafetensorError):
            return None
        self.used.add(path)
        return found, note

    def get(self, path: str) -> Kept:
        """What was loaded or saved before. Raises GoneAgain if somebody removed it in the meantime."""
        if (kept := self.load(path)) is None:
            raise GoneAgain(f"'{path}' was removed while it was in use. Queue the workflow again.")
        return kept

    def save(self, path: str, tensors: Mapping[str, torch.Tensor], note: Any = None) -> None:
        """Write it, whole or not at all. Raises NotSaved."""
        os.makedirs(self.folder, exist_ok=True)
        with whole_file(path) as unfinished:
            whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
            safetensors.torch.save_file(whole, unfinished, {NOTE: json.dumps(note)})
        self.used.add(path)

    def shrink(self) -> int:
        """Remove what was not used for longest, but nothing that this object gave out. Returns the bytes that are left."""
        files = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another process tidies up as well
                    files.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.most:
                break
            if path not in self.used:
                with suppress(OSError):  # Windows keeps files that are in use
                    os.remove(path)
                    total -= size
        return total
