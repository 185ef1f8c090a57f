"""A clip on two GPUs, by ComfyUI's MultiGPU CFG Split: is it the same clip as on one, and how much faster.

    python benchmarks/two_gpus.py --comfyui FOLDER --weights FOLDER

For a machine with two GPUs; it has not been run on one yet. One process, nothing from the network; FOLDERs as those of
gpu_check.py. For the plain checkpoint and each motion model it samples on one GPU and on two, and prints

* the relative error of the latents against one GPU, in float32,
* whether a second run on two GPUs is equal bit for bit,
* seconds per step on one and on two GPUs, in float16, and how many times as fast two are.

ComfyUI gives one GPU the positive prompt and the other the negative one, so twice as fast is the most there can be. An
error that is not small makes the exit status 1. ``--device cpu`` takes the same path on the CPU, in float32, with the two
devices that PyTorch has there (``cpu`` and ``cpu:0``), which are one: its times say nothing.
"""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
from clip import animate, load_checkpoint, step_seconds
from gpu_check import arguments, relative, sample, yes
from pack import load_pack

WRONG = 1e-3  # float32: only the size of the batch differs
PLAIN = "plain"


def main() -> int:
    options = arguments(__doc__)
    on_gpu = options.device == "cuda"
    pack = load_pack(options.comfyui, [] if on_gpu else ["--cpu"])

    import torch

    if on_gpu and torch.cuda.device_count() < 2:
        raise SystemExit(f"There are {torch.cuda.device_count()} GPUs for PyTorch here, and two are needed.")
    names = [torch.cuda.get_device_name(i) for i in range(2)] if on_gpu else ["CPU", "CPU"]
    print(
        f"{' and '.join(names)}; torch {torch.__version__}; {options.frames} frames, {options.pixels} px, "
        f"{options.steps} steps\n"
    )
    split = by_node if on_gpu else by_hand
    wrong = False
    with torch.inference_mode():
        print("| model | error | A = A |")
        print("|---|---|---|")
        with unet_in("fp32_unet"):
            for name, one, two, *conds in models(pack, split, options):
                error, equal = compared(one, two, conds, options)
                # written so that a NaN counts as wrong
                wrong |= not error < WRONG or not equal
                print(f"| {name} | {error:.1e} | {yes(equal)} |", flush=True)
        print("\n| model | s/step | on two | times as fast |")
        print("|---|---|---|---|")
        with unet_in("fp16_unet" if on_gpu else "fp32_unet"):
            for name, one, two, *conds in models(pack, split, options):
                of_one, of_two = (seconds(model, conds, options) for model in (one, two))
                print(f"| {name} | {of_one:.3f} | {of_two:.3f} | {of_one / of_two:.2f} |", flush=True)
    print("\nWRONG: see the table." if wrong else "\nAll right.")
    return int(wrong)


@contextmanager
def unet_in(dtype: str) -> Iterator[None]:
    """The host's option ``dtype`` for UNets that are loaded inside of it."""
    from comfy.cli_args import args

    setattr(args, dtype, True)
    try:
        yield
    finally:
        setattr(args, dtype, False)


def models(pack, split: Callable, options) -> Iterator[tuple]:
    """Name, MODEL on one device, on two, and prompts: of the checkpoint, and with each motion model.

    The checkpoint is cloned once: what Use Evolved Sampling puts on a MODEL with clones is cloned when it samples.
    """
    import comfy.model_management

    plain, *conds = load_checkpoint(options.weights / "checkpoints" / "random_sd15.safetensors")
    both = split(plain)
    yield PLAIN, plain, both, *conds
    for name in options.models:
        comfy.model_management.unload_all_models()
        gc.collect()  # clones refer to each other
        path = options.weights / "animatediff_models" / f"random_{name}.safetensors"
        yield name, *(animate(pack, model, path) for model in (plain, both)), *conds


def by_node(model):
    """The MODEL on two GPUs."""
    from comfy_extras.nodes_multigpu import MultiGPUCFGSplitNode

    return MultiGPUCFGSplitNode.execute(model, max_gpus=2).result[0]


def by_hand(model):
    """The same for the two devices of a CPU, which that node does not count."""
    import torch

    model = model.clone()
    clone = model.deepclone_multigpu(new_load_device=torch.device("cpu", 0))
    clone.is_multigpu_base_clone = True
    model.set_additional_models("multigpu", [clone])
    model.match_multigpu_clones()
    return model


def compared(one, two, conds, options) -> tuple[float, bool]:
    """The relative error of MODEL ``two`` against ``one``, and whether two runs of it are equal."""
    import torch

    expected = sample(one, conds, empty(options), options.steps)
    first, second = (sample(two, conds, empty(options), options.steps) for _ in range(2))
    return relative(first, expected), torch.equal(first, second)


def seconds(model, conds, options) -> float:
    return statistics.median(step_seconds(model, *conds, empty(options), options.steps))


def empty(options):
    import torch

    return torch.zeros(options.frames, 4, options.pixels // 8, options.pixels // 8)


if __name__ == "__main__":
    sys.exit(main())
