"""The folder of results: one folder for each finished job, and the manifest.

    OUT/00002/animatediff_00001_.webp   what the job of row 2 saved
    OUT/00002/job.json                  its line of the manifest
    OUT/manifest.jsonl                  a line for each job that finished or failed, in the order in which they ended

A job is finished when its folder is there, which it is with all that it holds or not at all. Only the process that holds the
lock writes; whenever that ends, at once or by the power cord, the next start finds no more and no less than finished jobs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .job_folder import UNFINISHED, finish, inside, read_record, record_of, write
from .table import Job, TableError
from .worker import DONE, FAILED


class Results:
    """Use as a context manager: it holds the lock of the folder. Raises TableError where it cannot be used."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest = folder / "manifest.jsonl"
        self.records: dict[str, dict] = {}
        self._lock = FileLock(folder / ".lock")

    def __enter__(self) -> Results:
        try:
            (self.folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise TableError(
                f"Another run writes into '{self.folder}'. Wait for it, or choose another folder."
            ) from None
        except OSError as error:
            raise TableError(f"'{self.folder}' cannot be written to: {error.strerror}.") from None
        try:
            self._read()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.folder / UNFINISHED, ignore_errors=True)
        self._lock.release()

    def _read(self) -> None:
        shutil.rmtree(self.folder / UNFINISHED)  # of a run that was killed
        (self.folder / UNFINISHED).mkdir()
        content = self.manifest.read_bytes() if self.manifest.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # killed in the middle of a line
            os.truncate(self.manifest, len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self.records[record["job"]] = record
            except (ValueError, KeyError, TypeError):
                raise TableError(
                    f"'{self.manifest}', line {number}, is no line of a manifest. Repair or remove it."
                ) from None
        # Finished, but killed before the line was written.
        for entry in os.scandir(self.folder):
            if entry.is_dir() and not self._done(entry.name) and (record := read_record(self.folder / entry.name)):
                self._append(record)

    def _done(self, name: str) -> bool:
        # Whoever removes a folder wants it rendered again.
        return self.records.get(name, {}).get("status") == DONE and (self.folder / name).is_dir()

    def mistakes(self, job: Job) -> list[str]:
        """What is wrong with rendering ``job`` into this folder: that would take the place of something else."""
        if self._done(job.name):
            if self.records[job.name]["key"] == job.key:
                return []
            return [
                f"Row {job.row}: '{self.folder / job.name}' was rendered with another workflow or other values. "
                "Choose another folder for the results, or remove that one to have the row rendered."
            ]
        if (self.folder / job.name).exists():
            return [f"Row {job.row}: '{self.folder / job.name}' is there and is no result. Choose another folder."]
        return []

    def status(self, job: Job) -> str | None:
        """DONE, FAILED, or None: not yet rendered."""
        record = self.records.get(job.name, {})
        if record.get("key") != job.key or (record["status"] == DONE and not self._done(job.name)):
            return None
        return record["status"]

    def to_do(self, jobs: Iterator[Job], retry_failed: bool) -> Iterator[Job]:
        ended = (DONE,) if retry_failed else (DONE, FAILED)
        return (job for job in jobs if self.status(job) not in ended)

    def finish(self, job: Job, files: dict[str, bytes] | Path, **facts) -> None:
        """Keep the files of a job, by their paths in its folder; a folder which has them is moved here. Raises OSError."""
        unfinished = self.unfinished(job.name)
        if isinstance(files, Path):
            files.rename(unfinished)
        else:
            unfinished.mkdir(parents=True)
            for name, content in files.items():
                write(unfinished / inside(name), content)
        self._append(finish(unfinished, self.folder / job.name, record_of(job, DONE, **facts)))

    def fail(self, job: Job, error: str, **facts) -> None:
        self._append(record_of(job, FAILED, error=error, **facts))

    def unfinished(self, name: str) -> Path:
        """Where files of a job may lie until it is finished. Not made yet."""
        path = self.folder / UNFINISHED / name
        if path.exists():
            shutil.rmtree(path)
        return path

    def _append(self, record: dict) -> None:
        with self.manifest.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[record["job"]] = record
