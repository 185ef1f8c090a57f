"""What context windows cost: 64 frames in windows of 16, over the same windows' frames sampled as clips of their own.

    python -m nox -s benchmark -- windows [--comfyui FOLDER] [--weights FOLDER] [--size 128] [--steps 3] [--at-once 2]
                                          [--pack FOLDER --pack FOLDER …]

Random SD1.5 weights and the v2 motion model, by the host's own sampler; the MODELs take turns. The plain UNet and the
animated one sample 16 frames; a windowed step is compared with as many of their steps as it has windows. Memory is the
highest of the process (RSS, on Linux) with 16 frames, and with the long clip. --at-once: also with so many windows in a
batch. --pack: instead, the seconds per step of API prompts on each of these node packs, in fresh servers that take turns (packs.py).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
import packs
from clip import load_checkpoint, step_seconds
from memory import forget_peak, peak_memory
from pack import load_pack

WINDOW = 16
OVERLAPS = (4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", help="ComfyUI's folder; otherwise the one that the tests use")
    parser.add_argument("--weights", help="folder with checkpoints/ and animatediff_models/")
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3, help="timed in each round")
    parser.add_argument("--rounds", type=int, default=3, help="the first one loads the models")
    parser.add_argument("--at-once", type=int, default=1, help="windows in a batch; 0: as many as memory allows")
    packs.add_arguments(parser)
    options = parser.parse_args()
    host = hosts.host() if options.comfyui is None or options.weights is None or options.pack else None
    weights = Path(options.weights or hosts.weights(host))
    if options.pack:
        from long import NO_WINDOWS, PLAIN

        options.pixels = options.size
        settings = [(PLAIN, WINDOW), (NO_WINDOWS, WINDOW)]
        settings += [(f"static {WINDOW}/{overlap}", options.frames) for overlap in OVERLAPS]
        return packs.compare(host, weights, options, settings)
    pack = load_pack(options.comfyui or host.path, ["--cpu"])

    import torch

    with torch.inference_mode():
        plain, positive, negative = load_checkpoint(weights / "checkpoints" / "random_sd15.safetensors")
        models = animated(pack, plain, weights / "animatediff_models" / "random_v2.safetensors", options.at_once)
        models = {"plain UNet": plain, **models}
        latents = {
            name: torch.zeros(options.frames if "windows" in name else WINDOW, 4, options.size // 8, options.size // 8)
            for name in models
        }
        times: dict[str, list[float]] = {name: [] for name in models}
        peaks = {}
        for _ in range(options.rounds):
            for name, model in models.items():
                forget_peak()
                # the first step of a run also loads the models and is not counted
                times[name] += step_seconds(model, positive, negative, latents[name], options.steps + 1)
                peaks[name] = peak_memory()  # the last round's: all models are loaded by then
    report(pack, options, {name: statistics.median(taken) for name, taken in times.items()}, peaks)


def animated(pack, model, motion_model: Path, at_once: int) -> dict[str, object]:
    """MODELs by name: without windows, and with static ones; if ``at_once`` is not 1, also with so many in a batch."""
    motion = pack.submodule("sampling.motion.applied")
    animate = pack.submodule("sampling.evolved").animate
    context, windows = (
        pack.submodule("sampling.windows.context").Context,
        pack.submodule("sampling.windows.schedules").WindowOptions,
    )
    applied = motion.apply(
        pack.submodule("motion_models.files.motion_model").load_motion_model(str(motion_model)), motion.MotionSettings()
    )
    models = {"motion model": animate(model, applied, "autoselect")}
    for overlap in OVERLAPS:
        contexts = (context(windows("standard_static", WINDOW, overlap), "pyramid"),)
        models[name_of(overlap)] = animate(model, applied, "autoselect", contexts)
        if at_once != 1:
            together = pack.submodule("sampling.windows.context").with_windows_at_once(contexts, at_once)
            models[name_of(overlap, at_once)] = animate(model, applied, "autoselect", together)
    return models


def name_of(overlap: int, at_once: int = 1) -> str:
    return f"windows {WINDOW}/{overlap}" + (f", {at_once or 'all that fit'} at once" if at_once != 1 else "")


def report(pack, options, seconds: dict[str, float], peaks: dict[str, float | None]) -> None:
    import torch

    windows = pack.submodule("sampling.windows.schedules")
    print(
        f"{options.size} px, cond and uncond, {torch.get_num_threads()} CPU threads; {WINDOW} frames and {options.frames}"
    )
    for name in ("plain UNet", "motion model"):
        print(f"{name}, {WINDOW} frames: {seconds[name]:.3f} s/step")
    for overlap in OVERLAPS:
        name = name_of(overlap)
        count = len(windows.windows(options.frames, windows.WindowOptions("standard_static", WINDOW, overlap)))
        plain, motion = (seconds[name] / (count * seconds[other]) for other in ("plain UNet", "motion model"))
        print(
            f"{name}, {options.frames} frames: {seconds[name]:.3f} s/step for {count} windows ({count * WINDOW} frame passes); "
            f"ratio to the plain UNet on as many {plain:.2f}, to the motion model without windows {motion:.3f}"
        )
        if options.at_once != 1:
            batch = name_of(overlap, options.at_once)
            print(
                f"{batch}: {seconds[batch]:.3f} s/step, {seconds[batch] / seconds[name]:.3f} of that one by one; memory at most "
                f"{peaks[batch] or 0:.2f} GiB"
            )
    if peaks["plain UNet"] is not None:
        short, long = peaks["motion model"], peaks[name_of(OVERLAPS[-1])]
        print(
            f"memory at most {short:.2f} GiB for {WINDOW} frames, {long:.2f} GiB for {options.frames}: ratio {long / short:.3f}"
        )


if __name__ == "__main__":
    main()
