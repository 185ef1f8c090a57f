"""A workflow and tables for the stub of ComfyUI, and `python -m cluster` as users start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "dev" / "stub_comfyui"
WORKFLOW = {
    "3": {
        "class_type": "Sleep",
        "inputs": {"seed": 1, "seconds": 0.1, "text": "a fox", "then": ""},
        "_meta": {"title": "The sampler"},
    },
    "picture": {"class_type": "LoadImage", "inputs": {"image": "none.png"}},
    "9": {"class_type": "Save", "inputs": {"images": ["3", 0], "filename_prefix": "clips/fox"}},
}


@dataclass
class Batch:
    """A workflow and a table in a folder, and the command that renders them into out/."""

    folder: Path
    address: str

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def command(self, *options: str) -> list[str]:
        command = [sys.executable, "-m", "cluster", "render", "workflow.json", "table.csv", "out", *options]
        if "--comfyui" not in options:
            command += ["--comfyui", str(STUB), "--python", sys.executable]
        return [*command, "--address", self.address, "--workers", "2", "--gpus-per-worker", "0"]

    def start(self, *options: str) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            self.command(*options),
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *options: str, code: int = 0) -> str:
        """What the command prints; it must exit with ``code``."""
        process = self.start(*options)
        printed, _ = process.communicate(timeout=200)
        assert process.returncode == code, printed
        return printed

    def manifest(self) -> list[dict]:
        path = self.out / "manifest.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def saved(self, job: str) -> dict:
        """What the stub saved: the values of the prompt that it ran."""
        (path,) = (self.out / job / "clips").iterdir()
        assert path.name == "fox_00001_.json"
        return json.loads(path.read_text())
