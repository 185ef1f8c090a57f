"""How far the temporal module is from its floor: its time over the time of its bare matrix products.

    python -m nox -s benchmark -- temporal_module [--comfyui FOLDER] [--device cuda --dtype float16] [--size 1]

For each level of SD1.5 at 16 frames; ``--size`` multiplies the spatial size (4 gives a 512 px picture's). The floor
is what no implementation can leave out: ten linear layers and, per attention, q kᵀ and the product with v. Both are
timed alternately in one process. Memory is the high-water mark of a call over the size of its input.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from pack import load_pack

LEVELS = ((320, 16), (640, 8), (1280, 4), (1280, 2))
FRAMES = 16
HEADS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", help="ComfyUI's folder; otherwise the one that the tests use")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    pack = load_pack(options.comfyui or hosts.host().path, ["--cpu"] if options.device == "cpu" else [])

    import torch

    temporal = pack.submodule("motion_models.network.temporal")
    spec_type = pack.submodule("motion_models.spec").MotionModelSpec
    inputs = pack.submodule("motion_models.network.call").MotionInputs()
    dtype = getattr(torch, options.dtype)
    print(f"{'level':>12} {'module ms':>10} {'products ms':>12} {'ratio':>6} {'memory':>7}")
    with torch.inference_mode():
        for channels, size in LEVELS:
            size *= options.size
            spec = spec_type("benchmark", "AnimateDiff", "v2", ((channels,),), (), (), 2, HEADS, 32, 0)
            module = temporal.MotionModule(channels, spec, dtype).eval().to(options.device)
            for parameter in module.parameters():
                parameter.normal_(0, 0.02)
            x = torch.randn(FRAMES, channels, size, size, device=options.device, dtype=dtype)

            def run(module=module, x=x):
                return module(x, FRAMES, inputs)

            floor = bare_products(torch, channels, size * size, x)
            ours, products = alternate(torch, run, floor, options.repeats)
            memory = high_water(torch, run, options.device) / (x.numel() * x.element_size())
            print(
                f"{channels:>6}@{size}²".rjust(12),
                f"{ours * 1e3:10.2f} {products * 1e3:12.2f} {ours / products:6.2f} {memory:6.1f}x",
            )


def bare_products(torch, channels: int, positions: int, like):
    """The matrix products of one temporal module, and nothing else."""

    def new(*shape):
        return torch.randn(*shape, device=like.device, dtype=like.dtype) * 0.02

    x, inner = new(positions * FRAMES, channels), new(positions * FRAMES, 4 * channels)
    square = [new(channels, channels) for _ in range(10)]  # proj_in, 2 x (q, k, v, out), proj_out
    widen, narrow = new(8 * channels, channels), new(channels, 4 * channels)
    q = new(positions * HEADS, FRAMES, channels // HEADS)
    weights = new(positions * HEADS, FRAMES, FRAMES)

    def run():
        for weight in square:
            torch.nn.functional.linear(x, weight)
        torch.nn.functional.linear(x, widen)
        torch.nn.functional.linear(inner, narrow)
        for _ in range(2):
            torch.bmm(q, q.transpose(1, 2))
            torch.bmm(weights, q)

    return run


def alternate(torch, first, second, repeats: int) -> tuple[float, float]:
    """Least seconds of both, run in turns: what they take when nothing else disturbs them."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, taken in zip((first, second), times, strict=True):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return min(times[0]), min(times[1])


def high_water(torch, run, device: str) -> int:
    """Most bytes that a call holds at once, beyond what was there before."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


if __name__ == "__main__":
    main()
