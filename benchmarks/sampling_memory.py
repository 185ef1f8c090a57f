"""What a denoiser call takes on a graphics card, by counting, beside what ComfyUI reserves for it.

    python -m nox -s benchmark -- sampling_memory [--frames 16]

SD1.5 and SDXL in half precision with a motion model, cond and uncond together. Nothing is computed (PyTorch's meta device): all
tensors beside the weights are counted from when they are made until they are let go of.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=16)
    frames = parser.parse_args().frames
    pack = load_pack(hosts.host().path, ["--cpu"])

    from counted_memory import Animated, estimate

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


if __name__ == "__main__":
    main()
