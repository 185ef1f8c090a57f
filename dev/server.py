"""A real ComfyUI server with this pack in it, for tests, benchmarks and the demo.

    with Server(host, run_folder, models=[weights]) as server:
        entry = server.queue(prompt)
        print(server.outputs(entry))

Only the standard library is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hosts import Host

ROOT = Path(__file__).resolve().parent.parent
PACK = "ComfyUI-AnimateDiff-Next"
MODEL_FOLDERS = ("checkpoints", "loras", "controlnet", "animatediff_models", "animatediff_motion_lora")
POLL = 0.1  # seconds

# A proxy from the environment must not get between us and our own machine.
local = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerError(RuntimeError):
    """The server did not start or died; the message ends with the tail of its log."""


class PromptError(RuntimeError):
    """The server refused a prompt or failed to run it, in its own words. `details` is the whole answer."""

    def __init__(self, message: str, details: dict):
        super().__init__(message)
        self.details = details


class Server:
    """`python main.py` of `host`, in the folder `run`, on a free port.

    `run` gets custom_nodes/ (a link to this repository), input/, output/, temp/, user/, models/ and server.log.
    `models` are folders holding checkpoints/, loras/, controlnet/, animatediff_models/ and animatediff_motion_lora/.
    """

    def __init__(
        self,
        host: Host,
        run: str | os.PathLike,
        *,
        models: Sequence[str | os.PathLike] = (),
        packs: Sequence[str | os.PathLike] = (ROOT,),
        device: str = "cpu",
        extra_args: Sequence[str] = (),
        start_timeout: float = 300,
    ):
        self.host = host
        self.run = Path(run).resolve()
        self.models = [Path(folder).resolve() for folder in models]
        self.packs = [Path(folder).resolve() for folder in packs]
        self.device = device
        self.extra_args = list(extra_args)
        self.start_timeout = start_timeout
        self.log_path = self.run / "server.log"
        self.url = ""
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Server:
        self.prepare()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(port), cwd=self.host.path, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self.wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def prepare(self) -> None:
        """Lay out the run folder."""
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (self.run / name).mkdir(parents=True, exist_ok=True)
        # A database that a newer ComfyUI left here would stop an older one.
        (self.run / "db.sqlite").unlink(missing_ok=True)
        for pack in self.packs:
            link(pack, self.run / "custom_nodes" / (PACK if pack == ROOT else pack.name))
        paths = {
            f"models{i}": {"base_path": str(folder), **{name: name for name in MODEL_FOLDERS}}
            for i, folder in enumerate(self.models)
        }
        # JSON is YAML, and quotes any path correctly.
        (self.run / "models.yaml").write_text(json.dumps(paths), encoding="utf-8")

    def command(self, port: int) -> list[str]:
        database = (self.run / "db.sqlite").as_posix()
        command = [str(self.host.python), "-u", "main.py", "--listen", "127.0.0.1", "--port", str(port)]
        command += [
            "--disable-auto-launch",
            "--base-directory",
            str(self.run),
            "--database-url",
            f"sqlite:///{database}",
        ]
        if self.models:
            command += ["--extra-model-paths-config", str(self.run / "models.yaml")]
        if self.device == "cpu":
            command.append("--cpu")
        return command + self.extra_args

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

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def get(self, path: str):
        try:
            with local.open(self.url + path, timeout=60) as answer:
                return json.load(answer)
        except OSError:
            self.check_alive()  # says more than a closed connection does
            raise

    def post(self, path: str, body: dict) -> bytes:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with local.open(request, timeout=60) as answer:
            return answer.read()

    def object_info(self, name: str | None = None) -> dict:
        """The interface of all nodes by id, or of one node."""
        if name is None:
            return self.get("/object_info")
        return self.get(f"/object_info/{urllib.parse.quote(name)}")[name]

    def queue(self, prompt: dict, timeout: float = 1800) -> dict:
        """Run an API prompt to its end. Returns its history entry, raises PromptError."""
        return self.wait(self.submit(prompt), timeout)

    def submit(self, prompt: dict) -> str:
        """Put an API prompt in the queue. Returns its id; raises PromptError if the server refuses it."""
        try:
            return json.loads(self.post("/prompt", {"prompt": prompt}))["prompt_id"]
        except urllib.error.HTTPError as error:
            details = json.load(error)
            raise PromptError(refusal(details), details) from None

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
        """The files a prompt saved, in the order of its history entry."""
        lists = [value for node in entry["outputs"].values() for value in node.values()]
        files = [item for items in lists for item in items if isinstance(item, dict) and "filename" in item]
        return [self.run / item["type"] / item["subfolder"] / item["filename"] for item in files]


def refusal(details: dict) -> str:
    """The lines of a validation error: the prompt's own, then those of its nodes."""
    errors = [("", details["error"])]
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


def link(source: Path, target: Path) -> None:
    """Link a folder; copy it where the system does not let us (Windows without developer mode)."""
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))
