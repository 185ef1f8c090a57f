"""What a motion model costs: seconds of a 16-frame step over seconds of a plain UNet step on the same frames.

    python -m nox -s benchmark -- clip [--comfyui FOLDER] [--weights FOLDER] [--pixels 128] [--pack FOLDER --pack FOLDER …]

Random SD1.5 weights and the v2 motion model, sampled by the host's own sampler; the two MODELs take turns. ``--pack``: instead,
API prompts on each of these node packs, in fresh servers that take turns (packs.py).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
import packs
from pack import load_pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", help="ComfyUI's folder; otherwise the one that the tests use")
    parser.add_argument("--weights", help="folder with checkpoints/ and animatediff_models/")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    packs.add_arguments(parser)
    options = parser.parse_args()
    host = hosts.host() if options.comfyui is None or options.weights is None or options.pack else None
    weights = Path(options.weights or hosts.weights(host))
    if options.pack:
        from long import NO_WINDOWS, PLAIN

        options.steps = 3
        return packs.compare(host, weights, options, [(PLAIN, options.frames), (NO_WINDOWS, options.frames)])
    pack = load_pack(options.comfyui or host.path, ["--cpu"])

    import torch

    with torch.inference_mode():
        plain, positive, negative = load_checkpoint(weights / "checkpoints" / "random_sd15.safetensors")
        animated = animate(pack, plain, weights / "animatediff_models" / "random_v2.safetensors")
        latent = torch.zeros(options.frames, 4, options.pixels // 8, options.pixels // 8)
        times: dict[str, list[float]] = {"plain": [], "animated": []}
        for _ in range(options.rounds):
            for name, model in (("plain", plain), ("animated", animated)):
                times[name] += step_seconds(model, positive, negative, latent)
    plain_step, animated_step = (statistics.median(taken) for taken in times.values())
    print(f"{options.frames} frames at {options.pixels} px, cond and uncond, {torch.get_num_threads()} CPU threads")
    print(f"plain UNet {plain_step:.2f} s/step, with motion model {animated_step:.2f} s/step")
    print(f"ratio {animated_step / plain_step:.2f}")


def load_checkpoint(path: Path):
    """The MODEL of a checkpoint, and encoded prompts."""
    import comfy.sd

    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False)
    return model, *(clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a red fox running", "blurry"))


def animate(pack, model, motion_model: Path):
    motion = pack.submodule("sampling.motion.applied")
    patcher = pack.submodule("motion_models.files.motion_model").load_motion_model(str(motion_model))
    applied = motion.apply(patcher, motion.MotionSettings())
    return pack.submodule("sampling.evolved").animate(model, applied, "autoselect")


def step_seconds(model, positive, negative, latent, steps: int = 3, clock=time.perf_counter) -> list[float]:
    """Seconds of every step but the first, which also loads the models."""
    import comfy.sample

    ends: list[float] = []
    comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(latent, 0),
        steps,
        7.5,
        "euler",
        "normal",
        positive,
        negative,
        latent,
        callback=lambda *_: ends.append(clock()),
        disable_pbar=True,
    )
    return [end - start for start, end in itertools.pairwise(ends)]


if __name__ == "__main__":
    main()
