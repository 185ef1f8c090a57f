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
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hosts import Host

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from cluster.server import ComfyUI, PromptError, ServerError, seconds  # noqa: E402

sys.path.remove(str(ROOT))  # else the host's `nodes` could be ours

PACK = "ComfyUI-AnimateDiff-Next"
MODEL_FOLDERS = ("checkpoints", "loras", "controlnet", "animatediff_models", "animatediff_motion_lora")

__all__ = ["PACK", "ROOT", "PromptError", "Server", "ServerError", "seconds"]


class Server(ComfyUI):
    """The ComfyUI `host`, in the folder `run`, on a free port.

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
        super().__init__(host.path, host.python, run, start_timeout=start_timeout)
        self.models = [Path(folder).resolve() for folder in models]
        self.packs = [Path(folder).resolve() for folder in packs]
        database = (self.run / "db.sqlite").as_posix()
        self.arguments += ["--base-directory", str(self.run), "--database-url", f"sqlite:///{database}"]
        if self.models:
            self.arguments += ["--extra-model-paths-config", str(self.run / "models.yaml")]
        if device == "cpu":
            self.arguments.append("--cpu")
        self.arguments += extra_args

    def __enter__(self) -> Server:
        self.prepare()
        super().__enter__()
        return self

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
