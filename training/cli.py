"""A training by command: on several GPUs, on several machines, or without a browser. See docs/training.md.

torchrun --standalone --nproc-per-node 2 -m training.cli CONFIG.json --comfyui PATH [options of ComfyUI]

CONFIG.json is a graph as an API prompt: what the node Training on Several GPUs writes, or File > Export (API). What its
training nodes need is executed by every process, what lies behind them by the first one. Ctrl-C ends the training after the step at
hand, and what was trained is saved. To be run in the folder of the pack, or as a file from anywhere.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

# Not resolved: where the pack is linked into custom_nodes, ComfyUI lies above the link.
PACK = Path(os.path.abspath(__file__)).parents[1]
NODE = "AnimateDiffTrainMotionLoRA"  # one of ours, by which the pack is found in ComfyUI
RANK, LOCAL_RANK, LOCAL_PROCESSES = (
    int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
)


class CommandError(ValueError):
    """The command cannot be carried out; the message says why, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    options, of_comfyui = parser().parse_known_args(arguments)
    try:
        prompt = read(options.config)
        folder = comfyui_folder(options.comfyui)
        take_gpu(of_comfyui)
        leave_path()
        return run(prompt, folder, of_comfyui)
    except CommandError as error:
        if RANK == 0:
            print(error, file=sys.stderr, flush=True)
        return 2


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "training.cli",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
        allow_abbrev=False,  # what is not known here goes to ComfyUI
    )
    parser.add_argument("config", type=Path, help="the graph, as an API prompt")
    parser.add_argument("--comfyui", help="ComfyUI's folder; otherwise COMFYUI_PATH, or the one that this pack lies in")
    return parser


def read(config: Path) -> dict[str, dict]:
    try:
        prompt = json.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"'{config}' cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise CommandError(f"'{config}' is no JSON file: {error}.") from None
    if isinstance(prompt, dict) and isinstance(prompt.get("nodes"), list):
        raise CommandError(
            f"'{config}' is a workflow as the editor saves it. Open it in ComfyUI and choose File \u2192 Export (API)."
        )
    nodes = prompt.values() if isinstance(prompt, dict) else [None]
    if not prompt or not all(
        isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs"), dict) for node in nodes
    ):
        raise CommandError(f"'{config}' is no API prompt: nodes by id, each with class_type and inputs.")
    return prompt


def comfyui_folder(given: str | None) -> str:
    said = given or os.environ.get("COMFYUI_PATH")
    candidates = [Path(said).expanduser()] if said else [PACK.parents[1], Path.cwd()]
    for folder in candidates:
        if (folder / "main.py").is_file() and (folder / "comfy").is_dir():
            return str(folder.absolute())
    where = f"'{said}' is not ComfyUI's folder: it has no main.py." if said else "ComfyUI was not found."
    raise CommandError(f"{where} Say where it is: --comfyui PATH.")


def take_gpu(of_comfyui: Sequence[str]) -> None:
    """Let this process see one GPU: of those that it may use, the one with its number among the processes of this machine."""
    if "--cpu" in of_comfyui or LOCAL_PROCESSES == 1:
        return
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        allowed = os.environ.get(name)
        if not allowed:
            os.environ[name] = str(LOCAL_RANK)
        elif len(gpus := allowed.split(",")) >= LOCAL_PROCESSES:
            os.environ[name] = gpus[LOCAL_RANK]
        else:
            raise CommandError(
                f"torchrun started {LOCAL_PROCESSES} processes, but {name} allows {len(gpus)} GPUs. Lower --nproc-per-node."
            )


def leave_path() -> None:
    """ComfyUI has modules that are named like folders and files of ours."""
    own = {PACK, PACK / "training"}
    sys.path[:] = [path for path in sys.path if Path(os.path.abspath(path or ".")) not in own]
    sys.modules.pop("training", None)


def load_by_path(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(prompt: dict[str, dict], folder: str, of_comfyui: Sequence[str]) -> int:
    headless = load_by_path("animatediff_headless", PACK / "host" / "headless.py")
    with headless.comfyui(folder, of_comfyui, quiet=RANK > 0) as program:
        package = program.load(str(PACK), NODE)
        if package is None:
            raise CommandError("This ComfyUI cannot load the training nodes of the pack. Its log, above, says why.")
        graph, distributed, nodes = (
            importlib.import_module(f"{package}.{name}")
            for name in ("training.graph", "training.distributed", "nodes.training")
        )
        trainings = [name for name, node in prompt.items() if program.is_a(node, nodes.TrainingNode)]
        if not trainings:
            raise CommandError("The graph has no training node, such as Train MotionLoRA.")
        prompt = graph.part_with(trainings, prompt)
        problems, outputs = program.problems(prompt)
        if problems:
            raise CommandError("ComfyUI refuses the graph:\n" + "\n".join(problems))
        if not outputs:
            raise CommandError("Nothing behind the training saves it: put a Save node there, such as Save MotionLoRA.")
        heed_signals(program, distributed)
        with distributed.commanded() as place:
            done: set[str] = set()
            for name in graph.in_order(trainings, prompt):
                # One machine's processes share its folders: what the first one caches there, the others find.
                ahead = graph.linked(prompt[name], prompt)
                distributed.in_turns(LOCAL_RANK == 0, lambda ahead=ahead: execute(program, prompt, ahead))
                done.add(name)
                saved = {
                    end for end in outputs if name in graph.ahead_of([end], prompt).intersection(trainings) <= done
                }
                execute(program, prompt, [name, *(sorted(saved) if place.first else ())])
    return 0


def execute(program, prompt: dict[str, dict], ids: list[str]) -> None:
    if problem := program.run(prompt, ids):
        raise CommandError(problem)


def heed_signals(program, distributed) -> None:
    """The first Ctrl-C, or end of the job, stops the training as the button in the front end does; a second one ends the program."""

    def stop(number, _):
        signal.signal(number, signal.SIG_DFL)
        program.stopped = True
        distributed.interrupt(program.nodes.interrupt_processing)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


if __name__ == "__main__":
    raise SystemExit(main())
