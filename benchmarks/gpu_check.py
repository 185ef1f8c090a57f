"""Does AnimateDiff give the right picture on this GPU, how fast, and with how much memory?

    python benchmarks/gpu_check.py --comfyui FOLDER --weights FOLDER

One process, nothing from the network. FOLDER/checkpoints/random_sd15.safetensors and FOLDER/animatediff_models/
random_{v1,v2,v3}.safetensors are the random weights of the tests (dev/random_weights.py makes them). For dynamic VRAM off
and on, and for each motion model, it samples animated - plain - animated with the host's sampler and prints

* the relative error of the latents against float32 without dynamic VRAM (the plain checkpoint's own beside it),
* whether the second animated run and the plain runs before and after are equal bit for bit,
* seconds per step over those of the plain checkpoint, and the peak of VRAM.

A run whose result is noise shows as an error near 1 and makes the exit status 1. ``--device cpu`` takes the same
path on the CPU, without dynamic VRAM, which the host only has for NVIDIA GPUs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
from clip import animate, load_checkpoint, step_seconds
from pack import load_pack

if TYPE_CHECKING:
    import torch

WRONG = 0.1  # fp16 stays two orders of magnitude below, noise is at 1


def arguments(doc: str) -> argparse.Namespace:
    """Those of the command line; the first line of ``doc`` says what the program is for."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--comfyui", required=True)
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--models", nargs="+", default=["v1", "v2", "v3"])
    return parser.parse_args()


def main() -> int:
    options = arguments(__doc__)
    on_gpu = options.device == "cuda"
    if on_gpu:
        prepare_dynamic_vram()
    pack = load_pack(options.comfyui, [] if on_gpu else ["--cpu"])

    import torch
    from comfy.cli_args import args

    name = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; torch {torch.__version__}; {options.frames} frames, {options.pixels} px, {options.steps} steps\n")
    with torch.inference_mode():
        args.fp32_unet = True
        exact = runs(pack, options)
        args.fp32_unet, args.fp16_unet = False, True
        print("| dynamic VRAM | model | error | plain's error | A = A | B = B | s/step | over plain | peak VRAM GB |")
        print("|---|---|---|---|---|---|---|---|---|")
        wrong = False
        for dynamic in (False, True) if on_gpu else (False,):
            if dynamic:
                enable_dynamic_vram()
            wrong |= report("on" if dynamic else "off", runs(pack, options), exact)
    print("\nWRONG: see the table." if wrong else "\nAll right.")
    return int(wrong)


class Run(NamedTuple):
    latent: torch.Tensor
    equal: bool  # the second run gave the same bits
    plain_equal: bool  # so did the plain checkpoint after it
    seconds: float  # per step
    peak: int  # bytes of VRAM


def report(dynamic: str, half: dict[str, Run], exact: dict[str, Run]) -> bool:
    """Print a row for each motion model; True if any result is wrong."""
    wrong = False
    plain = half["plain"]
    plain_error = relative(plain.latent, exact["plain"].latent)
    for model, run in half.items():
        if model == "plain":
            continue
        error = relative(run.latent, exact[model].latent)
        # written so that a NaN counts as wrong
        wrong |= not error < WRONG or not run.equal or not run.plain_equal
        print(
            f"| {dynamic} | {model} | {error:.1e} | {plain_error:.1e} | {yes(run.equal)} | {yes(run.plain_equal)} "
            f"| {run.seconds:.3f} | {run.seconds / plain.seconds:.2f} | {run.peak / 2**30:.2f} |"
        )
    return wrong


def runs(pack, options) -> dict[str, Run]:
    """Sample with each motion model, the plain checkpoint in between, on freshly loaded weights."""
    import torch

    plain, *conds = load_checkpoint(options.weights / "checkpoints" / "random_sd15.safetensors")
    latent = torch.zeros(options.frames, 4, options.pixels // 8, options.pixels // 8)
    first_plain = sample(plain, conds, latent, options.steps)
    seconds = statistics.median(step_seconds(plain, *conds, latent, options.steps))
    results = {"plain": Run(first_plain, True, True, seconds, 0)}
    for model in options.models:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        path = options.weights / "animatediff_models" / f"random_{model}.safetensors"
        animated = animate(pack, plain, path)
        first, peak = watched(sample, animated, conds, latent, options.steps)
        plain_equal = torch.equal(sample(plain, conds, latent, options.steps), first_plain)
        equal = torch.equal(sample(animated, conds, latent, options.steps), first)
        seconds = statistics.median(step_seconds(animated, *conds, latent, options.steps))
        results[model] = Run(first, equal, plain_equal, seconds, peak)
        del animated
    return results


def sample(model, conds, latent, steps: int):
    import comfy.sample

    noise = comfy.sample.prepare_noise(latent, 0)
    return comfy.sample.sample(model, noise, steps, 7.5, "euler", "normal", *conds, latent, disable_pbar=True, seed=0)


def watched(function, *arguments) -> tuple:
    """The result, and the most memory in use on the device meanwhile, in bytes."""
    import torch

    if not torch.cuda.is_available():
        return function(*arguments), 0
    peak, done = 0, threading.Event()

    def watch():
        # the driver's count: dynamic VRAM does not go through PyTorch
        nonlocal peak
        while not done.wait(0.01):
            free, total = torch.cuda.mem_get_info()
            peak = max(peak, total - free)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = function(*arguments)
    finally:
        done.set()
        watcher.join()
    return result, peak


def prepare_dynamic_vram() -> None:
    """What the host's main.py does before PyTorch is imported."""
    import comfy_aimdo.control

    comfy_aimdo.control.init()


def enable_dynamic_vram() -> None:
    """What the host's main.py does on NVIDIA GPUs; models loaded from then on are dynamic."""
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher
    import comfy_aimdo.control

    devices = comfy.model_management.get_all_torch_devices()
    try:
        ready = comfy_aimdo.control.init_devices((device.index, 0) for device in devices)
    except TypeError:  # older releases of comfy-aimdo
        ready = comfy_aimdo.control.init_devices(device.index for device in devices)
    if not ready:
        raise SystemExit("comfy-aimdo does not work on this machine, so dynamic VRAM could not be checked.")
    comfy.model_management.unload_all_models()
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True


def relative(a, b) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def yes(value: bool) -> str:
    return "yes" if value else "NO"


if __name__ == "__main__":
    sys.exit(main())
