"""How long ComfyUI's start takes longer because of this pack: import of its modules, check of the host, list of its nodes.

    python -m nox -s benchmark -- import_time [--comfyui FOLDER] [--processes 7] [--most 0.3]

In fresh processes, in which ComfyUI is imported as it is when it loads packs; the median counts. The first process, which
compiles the pack's modules, does not. Prints `figure import_seconds VALUE MOST` last; exit status 1 if VALUE is above MOST.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from pack import Pack
from without import enter_whole_host

PARTS = ("ComfyUI", "modules", "node list", "of it: contract")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", help="ComfyUI's folder; otherwise the one that the tests use")
    parser.add_argument("--processes", type=int, default=7)
    parser.add_argument("--most", type=float, default=0.3, help="seconds")
    options = parser.parse_args()
    host = hosts.host()
    comfyui = options.comfyui or str(host.path)
    command = [host.python, __file__, "--once", comfyui]
    # Users' Pythons keep compiled modules.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    outputs = [subprocess.check_output(command, env=environment) for _ in range(options.processes + 1)]
    measured = [json.loads(output.splitlines()[-1]) for output in outputs[1:]]
    for name, seconds in zip(PARTS, zip(*measured, strict=True), strict=True):
        print(f"{name:<18} {statistics.median(seconds):.3f} s   ({min(seconds):.3f} to {max(seconds):.3f})")
    value = statistics.median(modules + nodes for _, modules, nodes, _ in measured)
    print(f"figure import_seconds {value:.3f} {options.most}")
    sys.exit(value > options.most)


def once(comfyui: str) -> None:
    """Print the seconds of PARTS in this process, as JSON."""
    with tempfile.TemporaryDirectory() as base:
        start = time.perf_counter()
        enter_whole_host(comfyui, base)
        imported = time.perf_counter()
        pack = Pack()
        loaded = time.perf_counter()
        lacking = pack.submodule("host.lacking").lacking
        checking = time.perf_counter()
        lacking()
        checked = time.perf_counter()
        for cached in ("found", "_source", "_names_in_methods"):
            getattr(pack.submodule("host.lacking"), cached).cache_clear()
        listing = time.perf_counter()
        extension = asyncio.run(pack.module.comfy_entrypoint())
        asyncio.run(extension.get_node_list())
        end = time.perf_counter()
    print(json.dumps([imported - start, loaded - imported, end - listing, checked - checking]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        once(sys.argv[2])
    else:
        main()
