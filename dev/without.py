"""Start the pack in a ComfyUI from which some names were taken away: what a release to come may look like.

    echo '[[["comfy.lora.load_lora"], "0.31.0"]]' | python dev/without.py COMFYUI_FOLDER BASE_FOLDER

Reads cases, [names, version] each, and prints for each of them the ids of the nodes that are served and the pack's lines
in the log; null where a name cannot be taken away: modules, members of an enum, what a class inherits as well. ComfyUI is
imported once, as it is when it loads packs, and the pack anew for each case.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
from contextlib import contextmanager
from enum import Enum
from functools import reduce
from types import ModuleType

from pack import Pack, enter_host


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "[AnimateDiff]" in record.getMessage():
            self.lines.append((record.levelname, record.getMessage()))


def enter_whole_host(comfyui: str, base: str) -> None:
    """Import all that ComfyUI has imported by the time it loads packs."""
    enter_host(comfyui, ["--cpu", "--base-directory", base])
    # utils.extra_config first, as main.py does it: later another module `utils` would be found
    for name in ("utils.extra_config", "torch", "execution", "server", "nodes", "comfyui_version"):
        importlib.import_module(name)


def owner_of(name: str):
    """The module or class that holds ``name``."""
    parts = name.split(".")[:-1]
    count = next(count for count in range(len(parts), 0, -1) if ".".join(parts[:count]) in sys.modules)
    return reduce(getattr, parts[count:], sys.modules[".".join(parts[:count])])


class CannotBeTaken(Exception):
    pass


@contextmanager
def without(names: list[str]):
    """Take names away, and give them back."""
    taken = [(owner_of(name), name.rpartition(".")[2]) for name in names]
    values = [vars(owner).get(last) for owner, last in taken]
    if any(value is None or isinstance(value, (ModuleType, Enum)) for value in values):
        raise CannotBeTaken
    for owner, last in taken:
        delattr(owner, last)
    try:
        if any(hasattr(owner, last) for owner, last in taken):
            raise CannotBeTaken
        yield
    finally:
        for (owner, last), value in zip(taken, values, strict=True):
            setattr(owner, last, value)


def start() -> tuple[list[str], list[tuple[str, str]]]:
    """Load the pack as ComfyUI does; the ids of its nodes, and its lines in the log."""
    handler = Lines()
    logging.getLogger().addHandler(handler)
    pack = Pack()
    try:
        extension = asyncio.run(pack.module.comfy_entrypoint())
        ids = [node.GET_SCHEMA().node_id for node in asyncio.run(extension.get_node_list())]
    finally:
        logging.getLogger().removeHandler(handler)
        for name in [name for name in sys.modules if name == pack.name or name.startswith(f"{pack.name}.")]:
            del sys.modules[name]
    return ids, handler.lines


def main() -> None:
    enter_whole_host(*sys.argv[1:])
    importlib.import_module("comfy_extras.nodes_model_advanced")
    version = sys.modules["comfyui_version"]
    results = []
    for names, version.__version__ in json.load(sys.stdin):
        try:
            with without(names):
                results.append(start())
        except CannotBeTaken:
            results.append(None)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
