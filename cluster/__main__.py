"""Batches of clips on a cluster, from the command line. See docs/cluster.md.

python -m cluster check WORKFLOW.json TABLE.csv                       is the table right?
python -m cluster render WORKFLOW.json TABLE.csv OUT --comfyui PATH   render it; once more: go on where it was
python -m cluster simulate                                            10,000 jobs without ComfyUI, and its figures
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from .table import Table, TableError, read_workflow

NO_RAY = "Ray is not installed in this Python ({}): pip install -r cluster/requirements.txt"


def main() -> int:
    arguments = parser().parse_args()
    try:
        return COMMANDS[arguments.command](arguments)
    except TableError as error:
        print(error, file=sys.stderr)
        return 2


def check(arguments: argparse.Namespace) -> int:
    count = Table(arguments.table, read_workflow(arguments.workflow), constants(arguments)).check()
    print(f"{count} jobs, no mistake found.")
    return 0


def render(arguments: argparse.Namespace) -> int:
    if not arguments.comfyui:
        raise TableError("--comfyui: say in which folder ComfyUI lies on the workers, or set COMFYUI_PATH.")
    try:
        from .render import Batch, Installation, render
        from .scheduler import NoWorkers
    except ImportError as error:
        raise TableError(NO_RAY.format(error)) from None
    options = shlex.split(arguments.comfyui_args)
    if not arguments.gpus_per_worker:
        options.append("--cpu")
    batch = Batch(
        arguments.workflow,
        arguments.table,
        arguments.out.resolve(),
        Installation(arguments.comfyui, arguments.python, tuple(options)),
        arguments.workers,
        arguments.gpus_per_worker,
        arguments.cpus_per_worker,
        arguments.address,
        constants(arguments),
        arguments.retry_failed,
        arguments.shared,
        arguments.timeout,
    )
    try:
        summary = render(batch)
    except KeyboardInterrupt:
        print("\nStopped. What is finished is in the manifest; the same command goes on from there.", file=sys.stderr)
        return 130
    except NoWorkers as error:
        print(f"No worker is left. The last word of one:\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"'{arguments.out}' cannot be written to: {error}. The same command goes on from there.", file=sys.stderr)
        return 1
    if summary is None:
        return 0
    print(
        f"{summary.done} done, {summary.failed} failed, in {summary.seconds:.0f} s; workers died {summary.deaths} times. "
        f"ComfyUI rendered {summary.server_seconds:.0f} s, "
        f"{summary.server_seconds / max(1, summary.done):.1f} s a clip. {batch.results / 'manifest.jsonl'}"
    )
    return 1 if summary.failed else 0


def simulate(arguments: argparse.Namespace) -> int:
    try:
        from .simulate import simulate
    except ImportError as error:
        raise TableError(NO_RAY.format(error)) from None
    return simulate(arguments.jobs, arguments.workers, arguments.processes, arguments.seconds, arguments.kills)


COMMANDS = {"check": check, "render": render, "simulate": simulate}


def constants(arguments: argparse.Namespace) -> dict[str, str]:
    pairs = [text.partition("=") for text in arguments.set]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise TableError(f"--set {wrong[0]}: write NODE.INPUT=VALUE.")
    return {name: value for name, _, value in pairs}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("cluster", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, of_table in (("check", True), ("render", True), ("simulate", False)):
        command = commands.add_parser(name)
        if of_table:
            command.add_argument("workflow", type=Path, help="API prompt: File \u2192 Export (API) in ComfyUI")
            command.add_argument(
                "table", type=Path, help="CSV or Parquet; columns are headed NODE.INPUT or NODE.INPUT:file"
            )
            command.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="NODE.INPUT=VALUE",
                help="a column that is equal in all rows",
            )
    add_render(commands.choices["render"])
    command = commands.choices["simulate"]
    command.add_argument("--jobs", type=int, default=10_000)
    command.add_argument("--workers", type=int, default=1000)
    command.add_argument(
        "--processes", type=int, default=8, help="that share the workers, as one machine may share GPUs"
    )
    command.add_argument("--seconds", type=float, default=10.0, help="of a job, give or take a fifth")
    command.add_argument("--kills", type=int, default=2, help="how many of the processes are killed on the way")
    return parser


def add_render(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("out", type=Path, help="folder for the results and manifest.jsonl")
    add("--comfyui", default=os.environ.get("COMFYUI_PATH"), help="ComfyUI's folder on the workers")
    add("--python", help="the interpreter that runs it there; otherwise that of its virtual environment")
    add(
        "--comfyui-args",
        default="",
        metavar="ARGS",
        help='further arguments of ComfyUI in one text, such as "--lowvram"',
    )
    add("--workers", type=int, help="how many; otherwise as many as the cluster has GPUs")
    add("--gpus-per-worker", type=float, default=1.0, help="0: ComfyUI runs on the CPU")
    add("--cpus-per-worker", type=float, default=1.0, help="as many threads ComfyUI gets from Ray")
    add("--address", help="of a Ray cluster; otherwise RAY_ADDRESS, or one on this machine for the time of the run")
    add("--retry-failed", action="store_true", help="render again what failed by its own fault in an earlier run")
    add(
        "--shared", action="store_true", help="OUT is the same folder on all machines: workers write into it themselves"
    )
    add("--timeout", type=float, default=3600.0, help="seconds after which a job counts as hanging")


if __name__ == "__main__":
    raise SystemExit(main())
