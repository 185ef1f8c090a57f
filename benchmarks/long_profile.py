"""Where the time of a step goes: the plain UNet and shared windows over a clip of 64 frames, by kinds of operators.

    python -m nox -s benchmark -- long_profile [--frames 64] [--pixels 64]

Random SD1.5 weights and the v2 motion model, cond and uncond, sampled by the host's own sampler. The last line is the ratio that
would be left if the motion model were nothing but its matrix products.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from clip import load_checkpoint, step_seconds
from pack import load_pack

STEPS = 3
PRODUCTS = "matrix products"
KINDS = {
    PRODUCTS: ("aten::addmm", "aten::mm"),
    "convolutions": ("aten::mkldnn_convolution",),
    "attention": ("aten::bmm", "aten::baddbmm", "aten::_softmax", "aten::_scaled_dot_product_flash_attention_for_cpu"),
    "copies": ("aten::copy_", "aten::index", "aten::cat"),
}
OTHER = "all else"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    host = hosts.host()
    weights = hosts.weights(host)
    pack = load_pack(host.path, ["--cpu"])

    import torch

    motion = pack.submodule("sampling.motion.applied")
    context, schedules = pack.submodule("sampling.windows.context"), pack.submodule("sampling.windows.schedules")
    patcher = pack.submodule("motion_models.files.motion_model").load_motion_model(
        str(weights / "animatediff_models" / "random_v2.safetensors")
    )
    windows = schedules.WindowOptions(schedules.STANDARD_STATIC, 16, 8)
    shared = context.Context(
        schedules.WindowOptions(schedules.ALL_FRAMES, 0),
        "flat",
        views=context.ViewOptions(windows, "pyramid", shared=True),
    )
    with torch.inference_mode():
        plain, positive, negative = load_checkpoint(weights / "checkpoints" / "random_sd15.safetensors")
        animated = pack.submodule("sampling.evolved").animate(
            plain, motion.apply(patcher, motion.MotionSettings()), "autoselect", contexts=(shared,)
        )
        latent = torch.zeros(options.frames, 4, options.pixels // 8, options.pixels // 8)
        models = {"plain UNet": plain, "shared 16/8": animated}
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(options.rounds):
            for name, model in models.items():
                times[name] += step_seconds(model, positive, negative, latent, STEPS)
        profiles = {name: profile(model, positive, negative, latent) for name, model in models.items()}

    (plain_step, step), (plain_kinds, kinds) = map(statistics.median, times.values()), profiles.values()
    print(f"{options.frames} frames at {options.pixels} px, {torch.get_num_threads()} CPU threads, seconds per step\n")
    print("| | " + " | ".join(models) + " |\n|---|---|---|")
    for kind in kinds:
        print(f"| {kind} | {plain_kinds[kind]:.2f} | {kinds[kind]:.2f} |")
    print(f"| a step, without the profiler | {plain_step:.2f} | {step:.2f} |\n")
    print(f"ratio {step / plain_step:.2f}")
    print(f"of matrix products alone {1 + (kinds[PRODUCTS] - plain_kinds[PRODUCTS]) / plain_step:.2f}")


def profile(model, positive, negative, latent) -> dict[str, float]:
    """Seconds per step by kinds of operators."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        step_seconds(model, positive, negative, latent, STEPS)
    taken = {event.key: event.self_cpu_time_total / 1e6 / STEPS for event in profiled.key_averages()}
    kinds = {kind: sum(taken.pop(name, 0.0) for name in names) for kind, names in KINDS.items()}
    return {**kinds, OTHER: sum(taken.values())}


if __name__ == "__main__":
    main()
