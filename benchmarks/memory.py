"""The memory of a process, on Linux; None elsewhere."""

from __future__ import annotations

import os
from pathlib import Path


def _status(pid: int | None) -> Path:
    return Path(f"/proc/{pid or os.getpid()}/status")


def forget_peak(pid: int | None = None) -> None:
    """Let ``peak_memory`` begin anew: loading a checkpoint takes more than sampling with it."""
    if _status(pid).exists():
        _status(pid).with_name("clear_refs").write_text("5")


def peak_memory(pid: int | None = None) -> float | None:
    """The most memory (RSS) that the process held since ``forget_peak``, in GiB. ``pid`` None: this process."""
    return _gib("VmHWM", pid)


def held_memory(pid: int | None = None) -> float | None:
    """What it holds now, in GiB."""
    return _gib("VmRSS", pid)


def _gib(name: str, pid: int | None) -> float | None:
    if not _status(pid).exists():
        return None
    [line] = [line for line in _status(pid).read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 2**20
