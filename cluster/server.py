"""One ComfyUI server: started, asked over HTTP, ended. Only the standard library is needed.

The server ends with the process that started it, however that ends: a worker that is killed leaves no GPU occupied.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

POLL = 0.05  # seconds

# ComfyUI's main.py under a thread that waits for the end of our pipe. os.read, because a thread that waits in
# sys.stdin would hold its lock when the interpreter ends. argv: main.py, arguments.
GUARDED = """
import os, runpy, sys, threading
del sys.argv[0]
def end_with_the_pipe():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=end_with_the_pipe, daemon=True).start()
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class ServerError(RuntimeError):
    """The server did not start or died; the message ends with the tail of its log."""


class PromptError(RuntimeError):
    """The server refused a prompt or failed to run it, in its own words. `details` is the whole answer."""

    def __init__(self, message: str, details: dict):
        super().__init__(message)
        self.details = details


class ComfyUI:
    """`main.py` of the ComfyUI in the folder `path`, on a free port of 127.0.0.1, while a `with` block lasts.

    `run`: an existing folder of this server's own, for input/, output/, temp/ and server.log; `arguments` of ComfyUI's
    command line must say so.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        python: str | os.PathLike,
        run: str | os.PathLike,
        arguments: Sequence[str] = (),
        *,
        start_timeout: float = 300,
    ):
        self.path = Path(path)
        self.python = Path(python)
        self.run = Path(run).resolve()
        self.arguments = list(arguments)
        self.start_timeout = start_timeout
        self.log_path = self.run / "server.log"
        self.url = ""
        self.process: subprocess.Popen | None = None
        # A proxy from the environment must not get between us and our own machine.
        self.local = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> ComfyUI:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(port), cwd=self.path, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self.wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def command(self, port: int) -> list[str]:
        command = [str(self.python), "-u", "-c", GUARDED, "main.py"]
        command += ["--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"]
        return command + self.arguments

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        while True:
            self.check_alive()
            try:
                self.get("/system_stats")
                return
            except OSError:  # not listening yet
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"ComfyUI did not answer within {self.start_timeout} s.\n{self.log_tail()}"
                    ) from None
                time.sleep(POLL)

    def check_alive(self) -> None:
        if (code := self.process.poll()) is not None:
            raise ServerError(f"ComfyUI stopped with exit code {code}.\n{self.log_tail()}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()  # last: for the server this is the end of our process

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def get(self, path: str):
        try:
            with self.local.open(self.url + path, timeout=60) as answer:
                return json.load(answer)
        except OSError:
            self.check_alive()  # says more than a closed connection does
            raise

    def post(self, path: str, body: dict) -> bytes:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with self.local.open(request, timeout=60) as answer:
            return answer.read()

    def object_info(self, name: str | None = None) -> dict:
        """The interface of all nodes by id, or of one node; KeyError for one that is not there."""
        if name is None:
            return self.get("/object_info")
        return self.get(f"/object_info/{urllib.parse.quote(name)}")[name]

    def queue(self, prompt: dict, timeout: float = 1800) -> dict:
        """Run an API prompt to its end. Returns its history entry, raises PromptError."""
        return self.wait(self.submit(prompt), timeout)

    def submit(self, prompt: dict) -> str:
        """Put an API prompt in the queue. Returns its id; raises PromptError if the server refuses any part of it."""
        try:
            answer = json.loads(self.post("/prompt", {"prompt": prompt}))
        except urllib.error.HTTPError as error:
            answer = json.load(error)
        if answer.get("error") or answer.get("node_errors"):
            if "prompt_id" in answer:  # ComfyUI would run what it finds right, and leave out the rest
                self.post("/queue", {"delete": [answer["prompt_id"]]})
                self.post("/interrupt", {"prompt_id": answer["prompt_id"]})
            raise PromptError(refusal(answer), answer) from None
        return answer["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 1800) -> dict:
        """Wait for the end of a submitted prompt. Returns its history entry, raises PromptError if it failed."""
        deadline = time.monotonic() + timeout
        while not (history := self.get(f"/history/{prompt_id}")):
            self.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"The prompt did not finish within {timeout} s.\n{self.log_tail()}")
            time.sleep(POLL)
        entry = history[prompt_id]
        if entry["status"]["status_str"] != "success":
            raise PromptError(failure(entry), entry)
        return entry

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def outputs(self, entry: dict) -> list[Path]:
        """The files a prompt saved, in the order of its history entry; models are not among them."""
        items = [item for item in files_of(entry) if item["type"] in ("output", "temp")]
        return [self.run / item["type"] / item["subfolder"] / item["filename"] for item in items]


def files_of(entry: dict) -> list[dict]:
    """What a history entry says of files: `type` (output, temp, or the folder of models it is in), `subfolder`, `filename` of each."""
    lists = [value for node in entry["outputs"].values() for value in node.values()]
    return [item for items in lists for item in items if isinstance(item, dict) and "filename" in item]


def seconds(entry: dict) -> float:
    """How long a prompt ran, by the server's own clock."""
    at = {event: data["timestamp"] for event, data in entry["status"]["messages"]}
    return (at["execution_success"] - at["execution_start"]) / 1000


def refusal(details: dict) -> str:
    """The lines of a validation error: the prompt's own, then those of its nodes."""
    errors = []
    if error := details.get("error"):
        # The message names a missing node by its title alone, which the user may have written.
        kind = error.get("extra_info", {}).get("class_type")
        errors = [(f"{kind}: " if kind else "", error)]
    for node, found in details.get("node_errors", {}).items():
        errors += [(f"{node} ({found['class_type']}): ", error) for error in found["errors"]]
    return "\n".join(where + ": ".join(filter(None, (error["message"], error["details"]))) for where, error in errors)


def failure(entry: dict) -> str:
    """The message of a prompt that stopped while it ran."""
    for event, data in entry["status"]["messages"]:
        if event == "execution_error":
            return f"{data['node_id']} ({data['node_type']}): {data['exception_type']}: {data['exception_message']}"
        if event == "execution_interrupted":
            return f"{data['node_id']} ({data['node_type']}): interrupted"
    return f"ended with {entry['status']}"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def interpreter(environment: Path) -> Path:
    """The Python of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def python_of(path: Path) -> Path:
    """The interpreter of the ComfyUI in the folder ``path``: its virtual environment's, else the current one."""
    candidates = [
        interpreter(path / "venv"),
        interpreter(path / ".venv"),
        path / "python_embeded" / "python.exe",
        path.parent / "python_embeded" / "python.exe",  # where the portable Windows build has it
    ]
    return next((python for python in candidates if python.is_file()), Path(sys.executable))
