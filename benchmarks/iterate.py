"""What an artist waits for, and what memory is taken, while a workflow is changed: eleven changes in a row, then more motion models.

    python -m nox -s benchmark -- iterate [--pack FOLDER --pack FOLDER …] [--rounds 3] [--frames 16] [--pixels 64] [--json FILE]

API prompts of one step through a ComfyUI server, on random SD1.5 weights; each round in a fresh server, which has nothing else
in it. Packs take turns, and medians of the rounds are told: the seconds of each change above those of a step in which
nothing but the seed changes, and the most memory that the server has held until then (RSS, on Linux). With several packs the
first one is also compared with the others, such as an older state of itself in another folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
import packs
from memory import peak_memory
from server import ROOT, Server, seconds

FIRST, OTHER, THIRD = "random_v2.safetensors", "random_v3.safetensors", "random_v1.safetensors"
WARM = "seed"
# What is changed, and what is set from then on.
CHANGES: tuple[tuple[str, dict], ...] = (
    ("plain UNet", {"module": None, "lora": None, "scale": 1.0, "effect": 1.0}),
    ("motion module", {"module": FIRST}),
    (WARM, {}),
    ("MotionLoRA added", {"lora": 1.0}),
    ("strength of the MotionLoRA", {"lora": 0.6}),
    ("scale", {"scale": 1.2}),
    ("effect", {"effect": 0.9}),
    ("MotionLoRA removed", {"lora": None}),
    ("another module", {"module": OTHER}),
    ("the first again", {"module": FIRST}),
    ("plain UNet again", {"module": None}),
)
# As many changes of the module in all as the last figure is about.
MORE = tuple((f"change {i} of the module", {"module": module}) for i, module in enumerate((FIRST, THIRD, OTHER), 4))
PLAIN, LAST = CHANGES[0][0], MORE[-1][0]
CHEAP = (WARM, "scale", "effect")

# Seconds above a warm step, of the first pack: change -> at most.
MOST_SECONDS = {**dict.fromkeys((*CHEAP[1:], "MotionLoRA removed"), 0.2), "strength of the MotionLoRA": 0.5}
# The same, as a part of what the second pack takes.
MOST_OF_OTHER = {"motion module": 0.45, "another module": 0.45, "MotionLoRA added": 0.70}
# Memory, as a multiple of what the server had held with the plain UNet: behind which change -> at most.
MOST_MEMORY = {WARM: 1.02, LAST: 1.10}
MOST_OF_READING = 1.25


def prompt(settings: dict, options, seed: int) -> dict:
    def node(class_type: str, **inputs) -> dict:
        return {"class_type": class_type, "inputs": inputs}

    nodes = {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name="random_sd15.safetensors"),
        "positive": node("CLIPTextEncode", text="a red fox running", clip=["checkpoint", 1]),
        "negative": node("CLIPTextEncode", text="blurry", clip=["checkpoint", 1]),
        "latent": node("EmptyLatentImage", width=options.pixels, height=options.pixels, batch_size=options.frames),
    }
    model = ["checkpoint", 0]
    if settings["module"] is not None:
        applied = {"motion_model": ["motion", 0], "scale_multival": ["scale", 0], "effect_multival": ["effect", 0]}
        nodes["motion"] = node("ADE_LoadAnimateDiffModel", model_name=settings["module"])
        nodes["scale"] = node("ADE_MultivalDynamic", float_val=settings["scale"])
        nodes["effect"] = node("ADE_MultivalDynamic", float_val=settings["effect"])
        if settings["lora"] is not None:
            name = "random_motion_lora.safetensors"
            nodes["lora"] = node("ADE_AnimateDiffLoRALoader", name=name, strength=settings["lora"])
            applied["motion_lora"] = ["lora", 0]
        nodes["apply"] = node("ADE_ApplyAnimateDiffModelSimple", **applied)
        nodes["animated"] = node(
            "ADE_UseEvolvedSampling", model=model, m_models=["apply", 0], beta_schedule="autoselect"
        )
        model = ["animated", 0]
    nodes["sampler"] = node(
        "KSampler",
        model=model,
        positive=["positive", 0],
        negative=["negative", 0],
        latent_image=["latent", 0],
        seed=seed,
        steps=1,
        cfg=7.5,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    )
    nodes["save"] = node("SaveLatent", samples=["sampler", 0], filename_prefix="iterate")
    return nodes


def iterate(server: Server, options) -> dict[str, tuple[float, float | None]]:
    """Change -> seconds of its prompt, and the most GiB that the server has held until then."""
    found: dict[str, tuple[float, float | None]] = {}
    settings: dict = {}
    seeds = itertools.count()  # never the same, or the host might remember the result
    for name, change in (*CHANGES, *MORE):
        settings |= change
        taken = [
            seconds(server.queue(prompt(settings, options, next(seeds)), 7200))
            for _ in range(options.warm if name == WARM else 1)
        ]
        time_taken = statistics.median(taken)
        found[name] = time_taken, peak_memory(server.process.pid)
        memory = "" if found[name][1] is None else f", {found[name][1]:.2f} GiB"
        print(f"{name}: {time_taken:.2f} s{memory}", flush=True)
    return found


def medians(rounds: list[dict]) -> dict[str, tuple[float, float | None]]:
    found = {}
    for name in rounds[0]:
        peaks = [one[name][1] for one in rounds]
        found[name] = (
            statistics.median(one[name][0] for one in rounds),
            None if None in peaks else statistics.median(peaks),
        )
    return found


def above_warm(found: dict, name: str) -> float:
    """The seconds of a change above those of a warm step. Those with the plain UNet are compared with none."""
    return found[name][0] - found[WARM][0]


def table(of_packs: dict[Path, dict]) -> str:
    names = [packs.name_of(pack) for pack in of_packs]
    lines = ["| change | " + " | ".join(f"{name}: s (above a warm step), peak GiB" for name in names) + " |"]
    lines.append("|---|" + "---|" * len(names))
    for change in next(iter(of_packs.values())):
        cells = []
        for found in of_packs.values():
            taken, peak = found[change]
            above = "" if "plain" in change else f" ({above_warm(found, change):+.2f})"
            cells.append(f"{taken:.2f}{above}" + ("" if peak is None else f", {peak:.2f}"))
        lines.append(f"| {change} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(name: str, value: float, limit: float) -> bool:
    print(f"figure {name.replace(' ', '_')} {value:.3f} {limit:g}")
    return value <= limit


def figures(of_packs: dict[Path, dict]) -> bool:
    """Print the figures that have limits. Returns whether all are reached."""
    found, *others = of_packs.values()
    reached = [figure(f"{name} seconds", above_warm(found, name), limit) for name, limit in MOST_SECONDS.items()]
    for name, limit in MOST_MEMORY.items():
        if found[name][1] is not None and found[PLAIN][1]:
            reached.append(figure(f"memory behind {name} over plain", found[name][1] / found[PLAIN][1], limit))
    if others:
        for name, limit in MOST_OF_OTHER.items():
            value = above_warm(found, name) / max(above_warm(others[0], name), 1e-9)
            reached.append(figure(f"{name} over {packs.name_of(list(of_packs)[1])}".replace("/", "_"), value, limit))
    return all(reached)


def loading(host, weights: Path, rounds: int) -> bool:
    """Loading a motion module over reading its tensors one by one and casting them, in turns in one process."""
    from pack import load_pack

    pack = load_pack(host.path, ["--cpu"])
    load = pack.submodule("motion_models.files.motion_model").load_motion_model
    import safetensors
    import torch

    path = str(weights / "animatediff_models" / FIRST)

    def read_and_cast() -> dict:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).to(torch.float32) for name in file.keys()}  # noqa: SIM118

    taken: dict = {load: [], read_and_cast: []}
    with torch.inference_mode():
        for _ in range(rounds):
            for function in taken:
                start = time.perf_counter()
                made = function(path) if function is load else function()
                taken[function].append(time.perf_counter() - start)
                del made
    ours, least = (statistics.median(times) for times in taken.values())
    print(f"loading a motion module {ours:.2f} s, reading and casting its tensors {least:.2f} s")
    return figure("loading over reading and casting", ours / least, MOST_OF_READING)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    packs.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=packs.LEAST_ROUNDS)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--warm", type=int, default=2, help="warm steps, of which the median counts")
    parser.add_argument("--weights", type=Path, help="folder with checkpoints/, animatediff_models/ and so on")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--loading-only", action="store_true", help="no server: only the time of loading a module")
    options = parser.parse_args()

    host = hosts.host()
    weights = options.weights or hosts.weights(host)
    reached = True
    if not options.loading_only:
        chosen = packs.of(options)
        rounds = packs.in_turns(
            host, weights, chosen, options.rounds, options.device, lambda server: iterate(server, options)
        )
        if options.json:
            text = json.dumps({str(pack): found for pack, found in rounds.items()}, indent=1)
            options.json.write_text(text + "\n", encoding="utf-8")
        of_packs = {pack: medians(found) for pack, found in rounds.items()}
        print(
            f"\nComfyUI {host.version}, {options.frames} frames at {options.pixels} px, medians of {options.rounds}\n"
        )
        print(table(of_packs), "\n")
        reached = figures(of_packs)
        if chosen[0] != ROOT:
            return 0 if reached else 1
    return 0 if loading(host, weights, 5) & reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
