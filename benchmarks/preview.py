"""What the moving preview costs: the time of a clip with ComfyUI's previews on over that with them off.

    python -m nox -s benchmark -- preview [--steps 8] [--rounds 5] [--pixels 64] [--device cpu]

API prompts of 16 frames on the toy world through a ComfyUI server that a front end listens to; the two take turns. Both the time on the
clock and the time of all processor cores are told: the second is the less disturbed one. ComfyUI's own previews, a still for each
step, are part of it. Prints `figure preview_cost VALUE LIMIT`; exit status 1 if VALUE, of the clock, is above LIMIT.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from front_end import seen
from server import Server

from examples import in_toyworld

LIMIT = 1.02
FRAMES = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    options = parser.parse_args()
    host = hosts.host()
    taken: dict[str, list[tuple[float, float]]] = {"none": [], "latent2rgb": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(host, folder, models=[hosts.toyworld_models(host)], device=options.device) as server,
    ):
        process = psutil.Process(server.process.pid)
        for turn in range(options.rounds + 1):
            for place, (method, of_method) in enumerate(taken.items()):
                size = {"width": options.pixels, "height": options.pixels}
                seed = len(taken) * turn + place  # of its own: ComfyUI executes no prompt twice
                prompt = in_toyworld("txt2vid", batch_size=FRAMES, steps=options.steps, seed=seed, **size)
                begun, used = time.perf_counter(), process.cpu_times()
                previews = seen(server.url, prompt, preview_method=method)
                now = process.cpu_times()
                if bool(previews) != (method != "none"):
                    raise SystemExit(f"With previews {method} there were {len(previews)}: nothing is compared.")
                times = time.perf_counter() - begun, now.user + now.system - used.user - used.system
                if turn:  # the first one loads everything
                    of_method.append(times)
                print(f"{method}: {times[0]:.2f} s, {times[1]:.2f} s of cores, {len(previews)} previews", flush=True)
    clock, cores = (
        statistics.median(on[i] for on in taken["latent2rgb"]) / statistics.median(off[i] for off in taken["none"])
        for i in range(2)
    )
    print(f"previews on over off: {clock:.3f} on the clock, {cores:.3f} of the cores")
    print(f"figure preview_cost {clock:.3f} {LIMIT}")
    return 0 if clock <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
