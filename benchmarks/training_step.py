"""What a training step costs: with gradient checkpointing over without it, and that over the same step in plain PyTorch.

    python -m nox -s benchmark -- training_step [--pixels 128] [--frames 16] [--rounds 3]

A MotionLoRA of rank 16 for the v2 motion model, on random SD1.5 weights, fp32 on a CPU; the kinds of step take turns. The memory is
that of the process above what it holds before the step. Lines that begin with "figure" have a name, the value and its limit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import hosts
from clip import animate, load_checkpoint
from memory import forget_peak, held_memory, peak_memory
from pack import load_pack

RANK, LEARNING_RATE = 16, 5e-4
OFF, ON, PLAIN = "checkpointing off", "checkpointing on", "plain PyTorch"
# name, one kind of step over another, the most that it may take
FIGURES = (
    ("gradient_checkpointing_time", ON, OFF, 1.30),
    ("training_step_over_plain_pytorch", OFF, PLAIN, 1.02),
)


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
    kinds = {
        kind: partial(step, pack, model, latents, positive, negative, options.frames, kind == ON) for kind in (OFF, ON)
    }
    kinds[PLAIN] = partial(plain_step, pack, model, latents[0]["samples"], positive)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    memory: dict[str, float] = {}
    for _ in range(options.rounds):
        for kind, take in kinds.items():
            taken, memory[kind] = take()
            times[kind].append(taken)
    seconds = {kind: statistics.median(taken) for kind, taken in times.items()}
    print(f"{options.frames} frames at {options.pixels} px, {torch.get_num_threads()} CPU threads")
    # of the last kind the process holds what the others have left to it, so its memory says nothing
    told = (
        f"{kind} {seconds[kind]:.2f} s/step" + (f", {memory[kind]:.2f} GiB" if kind != PLAIN else "") for kind in kinds
    )
    print("; ".join(told))
    missed = False
    for name, one, other, limit in FIGURES:
        ratio = seconds[one] / seconds[other]
        print(f"figure {name} {ratio:.3f} {limit}")
        missed = missed or ratio > limit
    return int(missed)


class Measured:
    """Seconds of the processor, and GiB above what is held before, of the second of two steps; the first meets memory never used."""

    def __init__(self):
        self.held = held_memory() or 0.0
        self.ends: list[float] = []
        self.peaks: list[float] = []

    def end_of_step(self) -> None:
        self.ends.append(time.process_time())
        self.peaks.append((peak_memory() or 0.0) - self.held)
        forget_peak()

    @property
    def second(self) -> tuple[float, float]:
        return self.ends[1] - self.ends[0], self.peaks[1]


def step(pack, model, latents, positive, negative, frames: int, checkpointing: bool) -> tuple[float, float]:
    """As Measured, of the pack's own training."""
    import torch

    measured = Measured()
    progress = pack.submodule("host.training").Progress
    told = progress.step

    def end(*arguments):
        measured.end_of_step()
        told(*arguments)

    with torch.inference_mode(False), torch.enable_grad():
        settings = pack.submodule("training.settings").TrainingSettings(
            steps=2, frames=frames, checkpointing=checkpointing, precision="fp32", learning_rate=LEARNING_RATE
        )
        try:
            progress.step = end
            pack.submodule("training.motion_lora").train_motion_lora(
                model, latents, [positive], negative, settings, rank=RANK, alpha=float(RANK)
            )
        finally:
            progress.step = told
            pack.submodule("host.training").collect_garbage()
    return measured.second


def plain_step(pack, model, latents, positive) -> tuple[float, float]:
    """As Measured, of the same in plain PyTorch (dev/plain_training.py)."""
    import torch
    from plain_training import TIMESTEPS, beside, loss, with_motion

    host = pack.submodule("host.training")
    host.free_memory()
    measured = Measured()
    with torch.inference_mode(False), torch.enable_grad():
        cpu = torch.device("cpu")
        unet = host.unet_copy(model, torch.float32, cpu).diffusion_model
        (patcher,) = model.get_additional_models_with_key("AnimateDiff")
        motion = host.trainable_copy(patcher, torch.float32, cpu)
        tensors = motion.state_dict()
        pairs = {
            name: (
                torch.nn.Parameter(torch.randn(RANK, layer.in_features) * layer.in_features**-0.5),
                torch.nn.Parameter(torch.zeros(layer.out_features, RANK)),
            )
            for name, layer in motion.projections()
        }
        parameters = [half for pair in pairs.values() for half in pair]
        optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=1e-2)
        context = positive[0][0].detach().clone()
        with with_motion(unet, tensors, beside(tensors, pairs, 1.0), len(latents)):
            for _ in range(2):
                optimizer.zero_grad()
                timesteps = torch.randint(TIMESTEPS, (1,))
                loss(unet, latents[None], torch.randn(1, *latents.shape), timesteps, context).backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                measured.end_of_step()
    host.collect_garbage()
    return measured.second


if __name__ == "__main__":
    raise SystemExit(main())
