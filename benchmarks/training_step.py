"""What gradient checkpointing costs: seconds of a training step with it over seconds without.

    python -m nox -s benchmark -- training_step [--pixels 128] [--frames 16] [--rounds 3]

A MotionLoRA of rank 16 for the v2 motion model, on random SD1.5 weights, fp32 on a CPU; both kinds of step take turns. The memory is
that of the process above what it holds before the step. Lines that begin with "figure" have a name, the value and its limit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import hosts
from clip import animate, load_checkpoint
from memory import forget_peak, held_memory, peak_memory
from pack import load_pack

LIMIT = 1.30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", help="ComfyUI's folder; otherwise the one that the tests use")
    parser.add_argument("--weights", help="folder with checkpoints/ and animatediff_models/")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    host = hosts.host() if options.comfyui is None or options.weights is None else None
    weights = Path(options.weights or hosts.weights(host))
    pack = load_pack(options.comfyui or host.path, ["--cpu"])

    import torch

    with torch.inference_mode():
        plain, positive, negative = load_checkpoint(weights / "checkpoints" / "random_sd15.safetensors")
        model = animate(pack, plain, weights / "animatediff_models" / "random_v2.safetensors")
    size = options.pixels // 8
    latents = [{"samples": torch.randn(options.frames, 4, size, size)}]
    times: dict[bool, list[float]] = {False: [], True: []}
    memory: dict[bool, float] = {}
    for _ in range(options.rounds):
        for checkpointing in times:
            taken, memory[checkpointing] = step(pack, model, latents, positive, negative, options.frames, checkpointing)
            times[checkpointing].append(taken)
    off, on = (statistics.median(taken) for taken in times.values())
    print(f"{options.frames} frames at {options.pixels} px, {torch.get_num_threads()} CPU threads")
    print(f"checkpointing off {off:.2f} s/step, {memory[False]:.2f} GiB; on {on:.2f} s/step, {memory[True]:.2f} GiB")
    print(f"figure gradient_checkpointing_time {on / off:.3f} {LIMIT}")
    return 0 if on / off <= LIMIT else 1


def step(pack, model, latents, positive, negative, frames: int, checkpointing: bool) -> tuple[float, float]:
    """Seconds of the processor and GiB of the second of two steps; the first one meets memory that was never used."""
    import torch

    ends, peaks = [], []
    progress = pack.submodule("host.training").Progress
    told = progress.step

    def end(*arguments):
        ends.append(time.process_time())
        peaks.append((peak_memory() or 0.0) - held)
        forget_peak()
        told(*arguments)

    with torch.inference_mode(False), torch.enable_grad():
        settings = pack.submodule("training.settings").TrainingSettings(
            steps=2, frames=frames, checkpointing=checkpointing, precision="fp32", learning_rate=5e-4
        )
        try:
            progress.step = end
            held = held_memory() or 0.0
            pack.submodule("training.motion_lora").train_motion_lora(
                model, latents, [positive], negative, settings, rank=16, alpha=16.0
            )
        finally:
            progress.step = told
            pack.submodule("host.training").collect_garbage()
    return ends[1] - ends[0], peaks[1]


if __name__ == "__main__":
    raise SystemExit(main())
