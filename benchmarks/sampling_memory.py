"""What a denoiser call takes on a graphics card, by counting, beside what ComfyUI reserves for it.

    python -m nox -s benchmark -- sampling_memory [--frames 16] [--long]

SD1.5 and SDXL in half precision with a motion model, cond and uncond together. Nothing is computed (PyTorch's meta device): all
tensors beside the weights are counted from when they are made until they are let go of. ``--long``: clips in shared windows
instead, SD1.5 at 512 px.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from pack import load_pack

CONDS = 2
PIXELS = 8  # side by side that one of the latents stands for
SIZES = {"SD15": (512, 768), "SDXL": (1024,)}
MIB = 2**20
WINDOW, LONG = 16, (64, 128, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--long", action="store_true")
    options = parser.parse_args()
    frames = options.frames
    pack = load_pack(hosts.host().path, ["--cpu"])

    from counted_memory import Animated, estimate

    if options.long:
        return long_clips(pack, Animated(pack, "SD15"))

    print(f"{frames} frames, cond and uncond together, half precision; MiB beside the weights")
    for family, sizes in SIZES.items():
        plain, animated = Animated(pack, family, motion=False), Animated(pack, family)
        for pixels in sizes:
            side = pixels // PIXELS
            inputs = animated.all_inputs(frames, side, side)
            reserved = estimate(family, CONDS * frames, side, side)
            counted = {
                "UNet": plain.count(frames, CONDS, side, side),
                "with a motion model": animated.count(frames, CONDS, side, side),
                "with masks, camera, picture, joint group norm": animated.count(
                    frames, CONDS, side, side, inputs, True
                ),
            }
            print(f"{family}, {pixels} px: ComfyUI reckons with {reserved / MIB:.0f}")
            for name, found in counted.items():
                inside = f", {found.peak_marked / MIB:.0f} inside of motion modules" if found.peak_marked else ""
                print(f"  {name}: {found.peak / MIB:.0f}{inside}; {found.peak / reserved:.2f} of that")


def long_clips(pack, animated) -> None:
    """Shared windows with one motion, spatial layers in chunks of frames; against 16 frames without windows."""
    import torch

    call, views, chunks = (
        pack.submodule(f"motion_models.network.{name}") for name in ("call", "views", "frame_chunks")
    )
    schedules, one_motion = (pack.submodule(f"sampling.windows.{name}") for name in ("schedules", "one_motion"))
    side = SIZES["SD15"][0] // PIXELS
    short = animated.count(WINDOW, CONDS, side, side).peak
    print(f"SD1.5, {SIZES['SD15'][0]} px, half precision; MiB beside the weights. {WINDOW} frames: {short / MIB:.0f}")
    for frames in LONG:
        windows = schedules.windows(frames, schedules.WindowOptions("standard_static", WINDOW, WINDOW // 2))
        each = tuple(views.View(window, torch.ones(WINDOW)) for window in windows)
        one = one_motion.OneMotionOptions().in_call(frames, WINDOW, closed=False, step=0)
        inputs = call.MotionInputs(views=views.Views(each, shared=True, one_motion=one))
        for conds in (CONDS, 1):
            kept = chunks.kept_bytes(animated.unet, torch.empty(conds * frames, 4, side, side, device="meta").half())
            for chunk in (frames, WINDOW, WINDOW // 4):
                with chunks.in_chunks(animated.unet, frames, chunk):
                    peak = animated.count(frames, conds, side, side, inputs).peak
                print(
                    f"{frames} frames, {'one cond' if conds == 1 else 'cond and uncond'}, {chunk} at a time: {peak / MIB:.0f}, "
                    f"{peak / short:.2f} of {WINDOW} frames; reckoned for hidden state and skip connections: {kept / MIB:.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
