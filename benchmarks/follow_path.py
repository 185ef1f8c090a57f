"""What motion that is drawn or borrowed costs: the time of a clip of 16 frames with Follow Path, or with Motion Clone, over that without.

    python -m nox -s benchmark -- follow_path [--steps 10] [--rounds 3] [--pixels 64] [--device cpu]

API prompts through a ComfyUI server, on random SD1.5 weights and the v2 motion model, cond and uncond, over a whole schedule with
the nodes as they are; the settings take turns. Prints `figure follow_path VALUE LIMIT`; exit status 1 if VALUE is above LIMIT. What
they do: ``python -m toyworld claims --only path`` and ``--only borrowed``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
from long import NO_WINDOWS, SHORT, prompt
from server import ROOT, Server, seconds

LIMIT = 1.10
WITHOUT, FOLLOW, CLONE = "without", "Follow Path", "Motion Clone"


def with_motion(setting: str, steps: int, pixels: int, seed: int) -> dict:
    """The API prompt."""
    nodes = prompt(NO_WINDOWS, SHORT, steps, pixels, seed)
    sampler = nodes["sampler"]["inputs"]

    def put_on(class_type: str, **inputs) -> None:
        nodes["put_on"] = {"class_type": class_type, "inputs": {"model": sampler["model"], **inputs}}
        sampler["model"] = ["put_on", 0]

    if setting == FOLLOW:
        boxes = {"box_width": 0.3, "box_height": 0.3, "ease": "linear"}
        nodes["path"] = {
            "class_type": "AnimateDiffMotionPath",
            "inputs": {"places": "0: 0.25,0.5  15: 0.75,0.5", **boxes},
        }
        text = {"clip": ["checkpoint", 1], "prompt": nodes["positive"]["inputs"]["text"]}
        put_on("AnimateDiffFollowPath", path=["path", 0], noise=0.0, attention=30.0, end_percent=0.7, **text)
    if setting == CLONE:
        numbers = {"strength": 800.0, "start_percent": 0.0, "end_percent": 0.6, "up_block": 1}
        put_on("AnimateDiffMotionClone", reference=["latent", 0], **numbers)
    return nodes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    options = parser.parse_args()
    host = hosts.host()
    taken: dict[str, list[float]] = {setting: [] for setting in (WITHOUT, FOLLOW, CLONE)}
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(host, folder, models=[hosts.weights(host)], packs=[ROOT], device=options.device) as server,
    ):
        server.queue(with_motion(WITHOUT, 1, options.pixels, 0), 7200)  # loads everything
        for turn in range(options.rounds):
            for setting, of_setting in taken.items():
                queued = with_motion(setting, options.steps, options.pixels, turn + 1)
                of_setting.append(seconds(server.queue(queued, 7200)))
                print(f"{setting}: {of_setting[-1] / options.steps:.2f} s/step", flush=True)
    plain, follow, clone = (statistics.median(of_setting) / options.steps for of_setting in taken.values())
    print(f"\n16 frames, {options.pixels} px, {options.steps} steps: {plain:.2f} s/step without")
    for setting, value in ((FOLLOW, follow), (CLONE, clone)):
        print(f"{setting}: {value:.2f} s/step, {value / plain:.3f}")
    print(f"figure follow_path {follow / plain:.3f} {LIMIT:g}")
    return 0 if follow / plain <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
