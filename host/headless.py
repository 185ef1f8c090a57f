"""ComfyUI in this process, without its web server: for programs that run a graph.

To be loaded by its path, before anything of ComfyUI or the pack: ``training/cli.py`` does. So nothing of either is imported
above.
"""

import asyncio
import importlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# Options of ComfyUI that say where its files are, and on what it computes.
PATHS = ("base_directory", "models_directory", "input_directory", "output_directory", "user_directory")
MORE_PATHS = "extra_model_paths_config"
STOPPED = "It was stopped."


def options_in_use() -> list[str]:
    """The options with which another ComfyUI finds the files that this one finds, and computes on the same kind of device."""
    from comfy.cli_args import args

    found = [(name, path) for name in PATHS if (path := getattr(args, name, None))]
    found += [(MORE_PATHS, path) for paths in getattr(args, MORE_PATHS, None) or () for path in paths]
    options = [word for name, path in found for word in (f"--{name.replace('_', '-')}", os.path.abspath(path))]
    return [*options, "--cpu"] if args.cpu else options


def folder_in_use() -> str:
    return os.path.dirname(os.path.abspath(str(importlib.import_module("folder_paths").__file__)))


@contextmanager
def comfyui(folder: str, options: Iterable[str], quiet: bool = False) -> Iterator["Program"]:
    """The ComfyUI in ``folder`` with the ``options`` of its command line, started up with all its node packs but not serving.

    It leaves alone a server that is running with the same files. ``quiet``: it logs errors only.
    """
    with tempfile.TemporaryDirectory(prefix="animatediff-") as temp:
        arguments = [*options, "--temp-directory", temp, "--database-url", "sqlite:///:memory:"]
        sys.path.insert(0, folder)
        argv, sys.argv = sys.argv, ["main.py", *arguments, *(["--verbose", "ERROR"] if quiet else [])]
        try:
            main: Any = importlib.import_module("main")
            loop, server, _ = main.start_comfyui()
        finally:
            sys.argv = argv
        if quiet:
            logging.getLogger().setLevel(logging.ERROR)
        # what nodes tell the front end goes to nobody, but would pile up
        threading.Thread(target=loop.run_until_complete, args=(server.publish_loop(),), daemon=True).start()
        yield Program(server)


class Program:
    """A ComfyUI that was started by ``comfyui``."""

    def __init__(self, server: Any):
        self.nodes: Any = importlib.import_module("nodes")
        self.execution: Any = importlib.import_module("execution")
        cache = {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}  # each release takes what it knows
        self.executor = self.execution.PromptExecutor(server, self.execution.CacheType.CLASSIC, cache)
        self.stopped = False  # whether to begin nothing more

    def load(self, pack: str, node_id: str) -> str | None:
        """The name under which the modules of the pack with the node ``node_id`` are imported.

        If there is no such node yet, the pack in the folder ``pack`` is loaded. None if that fails, of which the log tells.
        """
        found = self.nodes.NODE_CLASS_MAPPINGS
        if node_id not in found:
            asyncio.run(self.nodes.load_custom_node(pack))
        if node_id not in found:
            return None
        module: str = found[node_id].__module__
        return module[: module.rindex(".nodes.")]

    def is_a(self, node: dict, kind: type) -> bool:
        found = self.nodes.NODE_CLASS_MAPPINGS.get(node["class_type"])
        return isinstance(found, type) and issubclass(found, kind)

    def problems(self, prompt: dict) -> tuple[list[str], set[str]]:
        """What is wrong with an API prompt, and which of its nodes are outputs: there may be none."""
        _, error, outputs, of_nodes = asyncio.run(self.execution.validate_prompt("training", prompt, None))
        found = []
        if error and not of_nodes and error["type"] != "prompt_no_outputs":
            # The message names a missing node by its title alone, which the user may have written.
            kind = error.get("extra_info", {}).get("class_type")
            found = [(f"{kind}: " if kind else "", error)]
        for name, node in of_nodes.items():
            found += [(f"{name} ({node['class_type']}): ", problem) for problem in node["errors"]]
        return [where + ": ".join(filter(None, (one["message"], one["details"]))) for where, one in found], set(outputs)

    def run(self, prompt: dict, ids: list[str]) -> str | None:
        """Execute the nodes ``ids`` with all that they need; what was executed before, and has not changed, is not again.

        Why it failed, or None. The log has more of it.
        """
        if self.stopped:  # between two of them
            return STOPPED
        self.executor.execute(prompt, "training", {}, ids)
        for event, data in self.executor.status_messages:
            if event == "execution_error":
                return f"{data['node_id']} ({data['node_type']}): {data['exception_message'].strip()}"
            if event == "execution_interrupted":
                return STOPPED
        return None
