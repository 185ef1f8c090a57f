"""The pack inside this very process, imported the way ComfyUI imports a folder of custom nodes.

pack = load_pack(comfyui, ["--cpu"])
files = pack.submodule("motion_models.files.motion_model")
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def import_file(name: str, path: Path) -> ModuleType:
    """Import a file under a name of our choosing, leaving sys.path alone."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def enter_host(comfyui: str | os.PathLike, arguments: Sequence[str]) -> None:
    """Make ComfyUI's modules importable. It reads its command line once, at the first import: ``arguments``."""
    sys.path.insert(0, str(comfyui))
    argv, sys.argv = sys.argv, ["main.py", *arguments]
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        importlib.import_module("comfy.cli_args")
    finally:
        sys.argv = argv


class Pack:
    def __init__(self):
        # ComfyUI's name for a pack: its path, without the dots that would mean a parent package
        self.name = str(ROOT).replace(".", "_x_")
        self.module = import_file(self.name, ROOT / "__init__.py")

    def submodule(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.name}.{name}")


def load_pack(comfyui: str | os.PathLike, arguments: Sequence[str]) -> Pack:
    enter_host(comfyui, arguments)
    return Pack()
