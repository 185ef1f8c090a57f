"""What training on several processes costs: seconds of a step of two processes over those of one with the batch of both.

    python -m nox -s benchmark -- distributed [--pixels 128] [--frames 16] [--rounds 3] [--steps 3]

A MotionLoRA of rank 16 for the v2 motion model, on random SD1.5 weights, fp32 on a CPU: a batch of one clip for each process, on one
thread each, against all of it in one process on two threads. Both take turns, and the fastest step of each counts: what
disturbs a step makes it slower. Takes 16 GB of memory. Prints `figure ddp_over_single VALUE LIMIT`; exit status 1 if VALUE is above LIMIT.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(ROOT / "dev"), str(Path(__file__).resolve().parent)]
import hosts  # noqa: E402
from clip import animate, load_checkpoint  # noqa: E402
from pack import load_pack  # noqa: E402

PROCESSES, LIMIT = 2, 1.15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", help="ComfyUI's folder; otherwise the one that the tests use")
    parser.add_argument("--weights", help="folder with checkpoints/ and animatediff_models/")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="of a round, behind a first one that does not count")
    parser.add_argument(
        "--measure", action="store_true", help="the steps of this process, which is one of PROCESSES or alone"
    )
    options = parser.parse_args()
    if options.measure:
        measure(options)
        return 0
    host = hosts.host() if options.comfyui is None or options.weights is None else None
    options.comfyui = options.comfyui or str(host.path)
    options.weights = options.weights or str(hosts.weights(host))
    seconds: dict[int, list[float]] = {1: [], PROCESSES: []}
    for _ in range(options.rounds):
        for processes in seconds:
            seconds[processes] += run(processes, options)
    single, several = (min(found) for found in seconds.values())
    print(f"batch {PROCESSES}, {options.frames} frames at {options.pixels} px")
    print(
        f"1 process, {PROCESSES} threads: {single:.2f} s/step; {PROCESSES} processes, 1 thread each: {several:.2f} s/step"
    )
    print(f"figure ddp_over_single {several / single:.3f} {LIMIT}")
    return 0 if several / single <= LIMIT else 1


def run(processes: int, options: argparse.Namespace) -> list[float]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = [__file__, "--measure", "--comfyui", options.comfyui, "--weights", options.weights]
    words += [str(word) for name in ("pixels", "frames", "steps") for word in (f"--{name}", getattr(options, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(PROCESSES // processes)}
    output = subprocess.check_output([sys.executable, *torchrun, *words], env=environment, text=True)
    (line,) = [line for line in output.splitlines() if line.startswith("steps ")]
    return [float(word) for word in line.split()[1:]]


def measure(options: argparse.Namespace) -> None:
    # the MODEL, which is only copied, in half the memory: each process has one
    pack = load_pack(options.comfyui, ["--cpu", "--fp16-unet"])

    import torch

    weights = Path(options.weights)
    with torch.inference_mode():
        plain, positive, negative = load_checkpoint(weights / "checkpoints" / "random_sd15.safetensors")
        model = animate(pack, plain, weights / "animatediff_models" / "random_v2.safetensors")
    size = options.pixels // 8
    generator = torch.Generator().manual_seed(0)
    latents = [{"samples": torch.randn(options.frames, 4, size, size, generator=generator)}]
    progress, ends = pack.submodule("host.training").Progress, []
    told = progress.step

    def end(*arguments):
        ends.append(time.monotonic())
        told(*arguments)

    progress.step = end
    with pack.submodule("training.distributed").commanded() as place, torch.inference_mode(False), torch.enable_grad():
        settings = pack.submodule("training.settings").TrainingSettings(
            steps=options.steps + 1, frames=options.frames, batch=PROCESSES, precision="fp32", learning_rate=5e-4
        )
        train = pack.submodule("training.motion_lora").train_motion_lora
        train(model, latents, [positive], negative, settings, rank=16, alpha=16.0)
        if place.first:
            print("steps", *(later - earlier for earlier, later in itertools.pairwise(ends)))


if __name__ == "__main__":
    raise SystemExit(main())
