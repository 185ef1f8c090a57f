"""The folder of a finished job: it is there with all that it holds, or not at all. Only the standard library is needed.

OUT/00002/animatediff_00001_.webp   what the job of row 2 saved
OUT/00002/job.json                  what is known of it: its record
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from .table import Job

RECORD = "job.json"
UNFINISHED = ".unfinished"  # beside the folders of the jobs: where one is filled


def record_of(job: Job, status: str, **facts) -> dict:
    ended = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"job": job.name, "row": job.row, "status": status, "ended": ended, **facts, "key": job.key}


def read_record(folder: Path) -> dict | None:
    """The record of the job whose folder this is; None: it is no such folder."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("job") == folder.name else None


def finish(unfinished: Path, folder: Path, record: dict) -> dict:
    """Make the files in ``unfinished`` those of the finished job; returns the record, which names them. Raises OSError."""
    files = sorted(path.relative_to(unfinished).as_posix() for path in unfinished.rglob("*") if path.is_file())
    record = {**record, "files": files}
    write(unfinished / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    unfinished.rename(folder)
    sync_folder(folder.parent)
    return record


def inside(name: str) -> PurePosixPath:
    """A path within a job's folder. Raises ValueError for one that leads out: it comes from another machine."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts:
        raise ValueError(f"a worker sent a file called '{name}'")
    return path


def write(path: Path, content: bytes) -> None:
    """Write a new file, on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Have a rename in a folder on the disk, where the system has that."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
