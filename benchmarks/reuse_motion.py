"""What Reuse Motion saves: the time of a clip of 16 frames with it, over that without.

    python -m nox -s benchmark -- reuse_motion [--every 2 3 4] [--steps 12] [--rounds 3] [--pixels 64] [--device cpu]

API prompts through a ComfyUI server, on random SD1.5 weights and the v2 motion model, cond and uncond, over a whole schedule with
the node as it is; the settings take turns. What it costs in quality: ``python -m toyworld claims --only reuse``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from long import NO_WINDOWS, SHORT, prompt, seconds
from server import ROOT, Server

LIMIT = 0.90  # of the setting that is recommended, the first one
AS_IT_IS = {"start_percent": 0.1, "end_percent": 0.9}


def with_reuse(every: int, steps: int, pixels: int, seed: int) -> dict:
    """The API prompt; ``every`` 1: without the node."""
    nodes = prompt(NO_WINDOWS, SHORT, steps, pixels, seed)
    if every > 1:
        sampler = nodes["sampler"]["inputs"]
        inputs = {"model": sampler["model"], "every": every, **AS_IT_IS}
        nodes["reuse"] = {"class_type": "AnimateDiffReuseMotion", "inputs": inputs}
        sampler["model"] = ["reuse", 0]
    return nodes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    options = parser.parse_args()
    host = hosts.host()
    taken: dict[int, list[float]] = {every: [] for every in (1, *options.every)}
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(host, folder, models=[hosts.weights(host)], packs=[ROOT], device=options.device) as server,
    ):
        server.queue(with_reuse(1, 1, options.pixels, 0), 7200)  # loads everything
        for turn in range(options.rounds):
            for every, of_setting in taken.items():
                of_setting.append(
                    seconds(server.queue(with_reuse(every, options.steps, options.pixels, turn + 1), 7200))
                )
                print(f"one step in {every}: {of_setting[-1]:.1f} s", flush=True)
    plain, *others = (statistics.median(of_setting) for of_setting in taken.values())
    print(f"\n16 frames, {options.pixels} px, {options.steps} steps: {plain:.1f} s without it")
    for every, value in zip(options.every, others, strict=True):
        print(f"one step in {every}: {value:.1f} s, {value / plain:.3f}")
    print(f"figure reuse_motion {others[0] / plain:.3f} {LIMIT:g}")
    return 0 if others[0] / plain <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
