"""What context extras cost: NaiveReuse and ContextRef on a clip in static windows, over the same windows without them.

    python -m nox -s benchmark -- context_extras [--size 64] [--frames 28] [--steps 2]

Random SD1.5 weights and the v2 motion model, cond and uncond, by the host's own sampler; all steps have the extra, and the
MODELs take turns. Seconds are of the processor, so that what else runs on the machine counts little. Memory is the highest of
the process (RSS, on Linux) and, beside it, what the windows keep for each other, counted at each call. Prints
`figure NAME VALUE LIMIT` for what has a limit; exit status 1 if one is above it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from clip import load_checkpoint, step_seconds
from memory import forget_peak, peak_memory
from pack import load_pack

WINDOW, OVERLAP = 16, 4
PLAIN, REUSE = "windows", "NaiveReuse"
MOST_REUSE = 1.05  # NaiveReuse only mixes predictions; what is above 1 is the noise of timing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", help="ComfyUI's folder; otherwise the one that the tests use")
    parser.add_argument("--weights", help="folder with checkpoints/ and animatediff_models/")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--frames", type=int, default=28)
    parser.add_argument("--steps", type=int, default=2, help="timed in each round")
    parser.add_argument("--rounds", type=int, default=3, help="the first one loads the models")
    options = parser.parse_args()
    host = hosts.host() if options.comfyui is None or options.weights is None else None
    weights = Path(options.weights or hosts.weights(host))
    pack = load_pack(options.comfyui or host.path, ["--cpu"])

    import torch

    with torch.inference_mode():
        plain, positive, negative = load_checkpoint(weights / "checkpoints" / "random_sd15.safetensors")
        models = with_extras(pack, plain, weights / "animatediff_models" / "random_v2.safetensors")
        latents = torch.zeros(options.frames, 4, options.size // 8, options.size // 8)
        times: dict[str, list[float]] = {name: [] for name in models}
        peaks, kept = {}, {name: watched(pack, model) for name, model in models.items()}
        for _ in range(options.rounds):
            for name, model in models.items():
                forget_peak()
                # the first step of a run also loads the models and is not counted
                times[name] += step_seconds(model, positive, negative, latents, options.steps + 1, time.process_time)
                peaks[name] = peak_memory()
    print(
        f"{options.size} px, {options.frames} frames in windows of {WINDOW}/{OVERLAP}, {torch.get_num_threads()} CPU threads"
    )
    seconds = {name: statistics.median(taken) for name, taken in times.items()}
    for name, taken in seconds.items():
        memory = (
            "" if peaks[name] is None else f", at most {peaks[name]:.2f} GiB, ratio {peaks[name] / peaks[PLAIN]:.3f}"
        )
        print(
            f"{name}: {taken:.2f} CPU s/step, ratio {taken / seconds[PLAIN]:.3f}{memory}; "
            f"{max(kept[name], default=0) / 2**20:.1f} MiB kept for other windows"
        )
    reuse = seconds[REUSE] / seconds[PLAIN]
    print(f"figure naive_reuse_ratio {reuse:.3f} {MOST_REUSE}")
    return int(reuse > MOST_REUSE)


def with_extras(pack, model, motion_model: Path) -> dict[str, object]:
    """MODELs by name: the same windows without extras, and with one each."""
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    context, schedules = pack.submodule("sampling.windows.context"), pack.submodule("sampling.windows.schedules")
    names = ("extras", "naive_reuse", "context_ref", "modes")
    extras, reuse, reference, modes = (pack.submodule(f"sampling.context_extras.{name}") for name in names)
    loaded = pack.submodule("motion_models.files.motion_model").load_motion_model(str(motion_model))
    applied = motion.apply(loaded, motion.MotionSettings())
    contexts = (context.Context(schedules.WindowOptions("standard_static", WINDOW, OVERLAP), "pyramid"),)

    def referring(**asked):
        return extras.ContextExtras(context_ref=reference.ContextRef(end_percent=1.0, **asked))

    asked = {
        PLAIN: extras.ContextExtras(),
        REUSE: extras.ContextExtras(naive_reuse=reuse.NaiveReuse(end_percent=1.0)),
        "ContextRef": referring(),
        "ContextRef, sliding": referring(mode=modes.Sliding(2)),
        "ContextRef, fidelity 0.5, adain": referring(tune=reference.Tune(0.5, 1.0, 1.0, 0.5, 1.0, 1.0)),
    }
    return {
        name: animate(model, applied, "autoselect", context.with_extras(contexts, extra))
        for name, extra in asked.items()
    }


def watched(pack, model) -> list[int]:
    """The list to which each window's call adds the bytes that windows keep for each other by then."""
    key, found = pack.submodule("sampling.context_extras.reference").KEY, []

    def call(apply, given):
        made = apply(given["input"], given["timestep"], **given["c"])
        window = given["c"]["transformer_options"].get(key)
        if window is not None:
            parts = [part for part in (window.attention, window.statistics) if part is not None]
            kept = [feature for part in parts for features in part.reference.kept.values() for feature in features]
            found.append(sum(feature.nbytes for feature in kept))
        return made

    model.set_model_unet_function_wrapper(call)
    return found


if __name__ == "__main__":
    sys.exit(main())
