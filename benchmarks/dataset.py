"""Video Folder to Clips: how long the second start takes, and how much memory many clips take over few.

    python -m nox -s benchmark -- dataset [--clips 50] [--few 5] [--pixels 128]

Videos of 640 x 360 pixels and 8 seconds (H.264) through the node in fresh processes, with the VAE and the text encoder of the
toy world's checkpoint, whose loading is not counted. Figures: `second_start`, the seconds of the node with everything kept over
those of the first time; `dataset_memory`, the peak of the resident memory with all clips over that with few.
Exit status 1 if one is above its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import memory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from pack import load_pack

SIZE, RATE, FRAMES = (640, 360), 25, 200
MOST_SECONDS, MOST_MEMORY = 0.05, 1.1
AGAIN = 3


def write_videos(folder: Path, count: int) -> None:
    """Discs that cross a noisy picture, each video in other colours and with a caption of its own."""
    import av
    import numpy as np

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    for number in range(count):
        ground, colour = rng.integers(0, 255, (*x.shape, 3), np.uint8) // 4, rng.integers(100, 255, 3)
        with av.open(str(folder / f"{number:03}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
            (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
            for frame in range(FRAMES):
                picture = ground.copy()
                picture[(x - 3 * frame) ** 2 + (y - 180) ** 2 < 80**2] = colour
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        (folder / f"{number:03}.txt").write_text(f"disc number {number}", encoding="utf-8")


def once(base: str, models: str, folder: str, pixels: int) -> None:
    """Run the node in this process. Prints its seconds, the peak of memory in GiB and its clips, as JSON."""
    pack = load_pack(hosts.host().path, ["--cpu", "--base-directory", base])
    import comfy.sd
    import comfy.utils
    import torch

    comfy.utils.set_progress_bar_enabled(False)
    node = pack.submodule("nodes.dataset").VideoFolderToClips
    _, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(f"{models}/checkpoints/toyworld.safetensors")
    settings = {"width": pixels, "height": pixels, "crop": "center", "frames": 16, "frame_rate": 30.0, "stride": 4}
    settings |= {"clips_per_video": 1, "split_at_cuts": False, "default_caption": ""}
    memory.forget_peak()
    start = time.perf_counter()
    with torch.inference_mode():
        node.fingerprint_inputs(folder=folder, default_caption="")
        latents = node.execute(folder=folder, vae=vae, clip=clip, **settings).result[0]
    print(json.dumps([time.perf_counter() - start, memory.peak_memory(), len(latents)]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--few", type=int, default=5)
    parser.add_argument("--pixels", type=int, default=128)
    options = parser.parse_args()
    host = hosts.host()
    models = hosts.toyworld_models(host)
    with tempfile.TemporaryDirectory() as base:
        for name, count in (("few", options.few), ("many", options.clips)):
            write_videos(Path(base) / "input" / name, count)

        def measured(folder: str) -> tuple[float, float | None]:
            command = [host.python, __file__, "--once", base, models, folder, str(options.pixels)]
            seconds, peak, clips = json.loads(subprocess.check_output(command).splitlines()[-1])
            print(f"{folder}: {clips} clips, {seconds:.2f} s{f', {peak:.2f} GiB' if peak else ''}", flush=True)
            return seconds, peak

        few, many = measured("few"), measured("many")
        again = statistics.median(measured("many")[0] for _ in range(AGAIN))
    figures = [("second_start", again / many[0], MOST_SECONDS)]
    if few[1] and many[1]:
        figures.append(("dataset_memory", many[1] / few[1], MOST_MEMORY))
    else:
        print("dataset_memory was not measured: this system does not tell the peak of a process's memory")
    for name, value, limit in figures:
        print(f"figure {name} {value:.3f} {limit:g}")
    return int(any(value > limit for _, value, limit in figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        once(*sys.argv[2:5], int(sys.argv[5]))
    else:
        raise SystemExit(main())
