"""What is written for a training by command, which training/cli.py carries out: the graph, and the command itself."""

import json
import logging
import os
import shlex
import subprocess
import sys
from typing import Any

from ..host import folders
from ..host.headless import folder_in_use, options_in_use
from ..host.progress import note
from ..host.writing import whole_file
from .graph import Prompt, part_with
from .place import here
from .settings import CommandSettings

PORT = 29500  # PyTorch's own choice
CLI = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cli.py")


def written_instead(settings: CommandSettings | None, hidden: Any) -> bool:
    """Whether training is to be by command, and this is not it. Then the graph is written, and what to do is shown and logged.

    ``hidden`` is what the host tells the training node: the graph and the node's id. Raises as ``write_graph`` does.
    """
    if settings is None or here().commanded:
        return False
    text = instructions(write_graph(hidden.prompt, hidden.unique_id, settings.prefix), settings)
    logging.info("[AnimateDiff] %s", text)
    note(text)
    return True


def write_graph(prompt: Prompt, node_id: str, prefix: str) -> str:
    """Write what training with the node ``node_id`` takes, and what lies behind it, as an API prompt; returns the path.

    Raises what folders.new_output and whole_file raise.
    """
    path = folders.new_output(prefix, ".json")
    with whole_file(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
        json.dump(part_with([node_id], prompt), file, indent=1, ensure_ascii=False)
    return path


def command(config: str, settings: CommandSettings, machine: int = 0) -> str:
    """What to type on machine number ``machine``, counted from 0."""
    where = ["--standalone"]
    if settings.machines > 1:
        where = ["--nnodes", str(settings.machines), "--node-rank", str(machine), "--master-addr", "FIRST"]
        where += ["--master-port", str(PORT)]
    words = [sys.executable, "-m", "torch.distributed.run", *where, "--nproc-per-node", str(settings.gpus)]
    words += [CLI, config, "--comfyui", folder_in_use(), *options_in_use()]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def instructions(config: str, settings: CommandSettings) -> str:
    """What to do with a graph that was written, in words."""
    text = f"Not trained here. '{config}' has the graph; end ComfyUI, which holds memory, and run this in a terminal:"
    if settings.machines == 1:
        return f"{text}\n\n{command(config, settings)}"
    text += "\n\n".join(["", *(command(config, settings, machine) for machine in range(settings.machines))])
    return (
        f"{text}\n\nEach line on a machine of its own, FIRST being the name or address of the first one. Paths are those of this machine: "
        "change them where they are others."
    )
