"""What runs on each worker: one ComfyUI server, and the jobs that it is given, one after another.

The code comes to the workers with Ray; nothing but Ray and ComfyUI has to be installed there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from .job_folder import inside
from .server import ComfyUI, PromptError, ServerError, files_of, python_of, seconds

DONE, FAILED, DIED = "done", "failed", "died"
SERVED = "served"
PREFIX, LOCK = "comfyui-worker-", ".lock"


@dataclass(frozen=True)
class Installation:
    """ComfyUI as it lies on every worker: its folder, the interpreter that runs it (None: found), further arguments."""

    path: str
    python: str | None = None
    arguments: tuple[str, ...] = ()
    start_timeout: float = 600  # custom nodes, and a disk that has not been read yet


@dataclass(frozen=True)
class Order:
    """A job on its way to a worker.

    ``saved_in`` is the folder of the prompt's files in the server's output folder; ``inputs`` are files for its input folder
    by name, as references into Ray's object store. ``into``: a folder, the same on all machines, for the files; None: they
    come back with the outcome.
    """

    prompt: dict
    saved_in: str
    inputs: dict[str, object] = field(default_factory=dict)
    into: str | None = None
    timeout: float = 3600


@dataclass(frozen=True)
class Outcome:
    """DONE with ``files``; FAILED: by the job's own fault, ``error`` says which; DIED: the server did, or got no answer."""

    status: str
    error: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    into: str | None = None  # where the files are, if not here
    seconds: float = 0.0  # by the server's clock
    busy: float = 0.0  # by the worker's clock, with all that the worker does besides
    worker: str = ""


class Worker:
    """A Ray actor. ``fetch`` gets what a reference of an order stands for."""

    def __init__(self, installation: Installation, fetch: Callable[[object], bytes]):
        self.installation = installation
        self.fetch = fetch
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.server: ComfyUI | None = None
        self.lock: FileLock | None = None

    def start(self, classes: list[str]) -> tuple[str, dict]:
        """Start the server, anew if there is one. Returns (SERVED, interface of these nodes) or (DIED, what is wrong)."""
        self.stop()
        try:
            server = self.server = self._server()
            server.__enter__()
            return SERVED, {name: info for name in classes if (info := interface(server, name))}
        except (OSError, ServerError) as error:
            self.stop()
            return DIED, f"{self.name}: {error}"

    def _server(self) -> ComfyUI:
        path = Path(self.installation.path)
        if not (path / "main.py").is_file():
            raise OSError(f"there is no ComfyUI in '{path}' on this machine (no main.py).")
        run = self._folder()
        arguments = ["--database-url", f"sqlite:///{(run / 'db.sqlite').as_posix()}"]
        for kind in ("input", "output", "temp", "user"):
            (run / kind).mkdir()
            arguments += [f"--{kind}-directory", str(run / kind)]
        return ComfyUI(
            path,
            self.installation.python or python_of(path),
            run,
            [*arguments, *self.installation.arguments],
            start_timeout=self.installation.start_timeout,
        )

    def _folder(self) -> Path:
        """A new folder for a server, whose lock is ours. Those of workers that were killed are removed."""
        for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
            with contextlib.suppress(Timeout, OSError), FileLock(lock, blocking=False):
                shutil.rmtree(lock.parent, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.lock = FileLock(folder / LOCK, thread_local=False)  # stop may come from another thread
        self.lock.acquire()
        return folder

    def stop(self) -> None:
        """End the server, whatever it does, and remove what it wrote."""
        server, self.server = self.server, None
        if server is None:
            return
        if server.process is not None:
            server.stop()
        self.lock.release()
        shutil.rmtree(server.run, ignore_errors=True)

    def render(self, order: Order) -> Outcome:
        """Run a prompt and bring back what it saved."""
        server, begun, taken = self.server, time.monotonic(), 0.0
        files = {}
        try:
            self._lay_out_inputs(server, order.inputs)
            entry = server.queue(order.prompt, order.timeout)
            taken = seconds(entry)
            files = saved(server, entry, order)
            status, error = (DONE, "") if files else (FAILED, "The workflow saved no file: it needs a Save node.")
            server.post("/history", {"clear": True})  # it would keep every prompt
        except PromptError as failure:
            status, error = FAILED, str(failure)
        except (OSError, ServerError, TimeoutError) as death:
            status, error = DIED, f"{type(death).__name__}: {death}"
        return Outcome(status, error, files, order.into, taken, time.monotonic() - begun, self.name)

    def _lay_out_inputs(self, server: ComfyUI, inputs: dict[str, object]) -> None:
        """Have these files in the server's input folder, and none of earlier jobs: a disk does not hold all of them."""
        folder = server.run / "input"
        for path in folder.iterdir():
            if path.is_file() and path.name not in inputs:
                path.unlink()
        for name, reference in inputs.items():
            if not (folder / name).exists():
                (folder / name).write_bytes(self.fetch(reference))


def interface(server: ComfyUI, name: str) -> dict | None:
    """Of a node; None where the server has no such node, which ComfyUI will say job by job."""
    with contextlib.suppress(KeyError):
        return server.object_info(name)


def saved(server: ComfyUI, entry: dict, order: Order) -> dict[str, bytes]:
    """What the prompt saved, by its path in the job's folder; empty contents where the files went ``into`` a folder."""
    output = server.run / "output"
    files = {}
    for item in files_of(entry):
        if item["type"] != "output":  # previews
            continue
        path = output / item["subfolder"] / item["filename"]
        own = output / order.saved_in
        name = inside(path.relative_to(own if path.is_relative_to(own) else output).as_posix())
        if order.into is None:
            files[str(name)] = path.read_bytes()
        else:
            target = Path(order.into) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            with target.open("rb+") as file:
                os.fsync(file.fileno())
            files[str(name)] = b""
    shutil.rmtree(output / order.saved_in, ignore_errors=True)
    return files
