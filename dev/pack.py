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


def import_script(name: str, path: Path) -> ModuleType:
    """Import a script of dev/ or benchmarks/ with the files beside it, which its imports find by their bare names.

    Those names are gone afterwards: some are ComfyUI's own, as `server` is.
    """
    folders = [ROOT / "dev", ROOT / "benchmarks"]
    bare = {file.stem for folder in folders for file in folder.glob("*.py")}
    kept = {name: sys.modules.pop(name) for name in bare & set(sys.modules)}
    search = list(sys.path)
    sys.path[:0] = map(str, folders)
    try:
        return import_file(name, path)
    finally:
        sys.path[:] = search
        for stem in bare:
            sys.modules.pop(stem, None)
        sys.modules.update(kept)


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
