"""Text to animation, end to end, on this machine's CPU: `python -m nox -s demo`, or `python dev/demo.py`.

Starts a real ComfyUI with this pack, runs example_workflows/api/txt2vid.json small and short, and says where
the WebP and the MP4 lie.
"""

import json
import time

import hosts
from server import Server


def main() -> None:
    host = hosts.host()
    weights = hosts.demo_weights(host)
    (checkpoint,) = (weights / "checkpoints").iterdir()
    (motion_model,) = (weights / "animatediff_models").iterdir()

    prompt = json.loads((hosts.ROOT / "example_workflows/api/txt2vid.json").read_text(encoding="utf-8"))
    prompt["checkpoint"]["inputs"]["ckpt_name"] = checkpoint.name
    prompt["motion_model"]["inputs"]["model_name"] = motion_model.name
    prompt["frames"]["inputs"].update(width=128, height=128)
    prompt["sampler"]["inputs"]["steps"] = 4

    print(f"Starting ComfyUI {host.version}", flush=True)
    with Server(host, hosts.cache_dir() / "demo", models=[weights]) as server:
        print("Making 16 frames of 128x128 pixels in 4 steps on the CPU (one to three minutes)", flush=True)
        start = time.monotonic()
        files = server.outputs(server.queue(prompt))
    print(f"Done in {time.monotonic() - start:.0f} s, with random weights: the picture is noise that moves.")
    print("It shows that the pipeline works.")
    for file in files:
        print(file)


if __name__ == "__main__":
    main()
