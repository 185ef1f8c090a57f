"""What long clips cost: seconds per step and memory, by windows, for clips of several lengths.

    python -m nox -s benchmark -- long [--frames 64 128 256] [--steps 2] [--rounds 3] [--json FILE] [--plot FILE]
                                       [--pack FOLDER] [--pixels 64] [--device cpu] [--measure time memory] [--add]

API prompts through a ComfyUI server, on random SD1.5 weights and the v2 motion model, cond and uncond; the settings take
turns. Prompts of ``--steps`` steps are timed, once everything is loaded. ``--pack`` runs the same prompts on another node pack, as
far as it has the nodes. Memory is the highest of the process of a second server (on Linux, RSS) above what it holds between two
runs, which is the weights: there memory that is no longer used goes back to the system at once, which takes time, and shared
windows see CHUNK frames at a time, where time is taken with as many as fit. ``--add``: the rounds that are in the JSON file count as
well, so that a run can be made in parts on a machine that is quiet for some minutes only; ``--measure`` with nothing behind it
measures nothing, and prints and draws what the file has.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev"))
import hosts
import packs
from memory import forget_peak, held_memory, peak_memory
from server import ROOT, Server, seconds

SHARED_NODE, STATIC_NODE = "AnimateDiffSharedWindowsContextOptions", "ADE_StandardStaticContextOptions"
LENGTH, CHUNK = 16, 16
PLAIN, NO_WINDOWS = "plain UNet", "16 frames, no windows"
SHORT = 16


def context(name: str, chunk: int = 0) -> tuple[str, dict] | None:
    """The context node of a setting, by its name, and its inputs; ``chunk``: frames at a time, where it has that."""
    if name in (PLAIN, NO_WINDOWS):
        return None
    kind, overlap, *one_motion = name.split()
    inputs = {"context_length": LENGTH, "context_overlap": int(overlap.split("/")[1]), "fuse_method": "pyramid"}
    if kind == "static":
        return STATIC_NODE, {**inputs, "use_on_equal_length": False, "start_percent": 0.0, "guarantee_steps": 1}
    return SHARED_NODE, {
        **inputs,
        "schedule": "standard_static",
        "one_motion": float(bool(one_motion)),
        "cut_off": 0.25,
        "one_motion_end_percent": 1.0,
        "frames_at_once": chunk,
        "skips_in_ram": False,
    }


SETTINGS = (PLAIN, "static 16/4", "static 16/8", "shared 16/4", "shared 16/8", "shared 16/12", "shared 16/8 one-motion")


def prompt(setting: str, frames: int, steps: int, pixels: int, seed: int, chunk: int = 0) -> dict:
    def node(class_type: str, **inputs) -> dict:
        return {"class_type": class_type, "inputs": inputs}

    nodes = {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name="random_sd15.safetensors"),
        "positive": node("CLIPTextEncode", text="a red fox running", clip=["checkpoint", 1]),
        "negative": node("CLIPTextEncode", text="blurry", clip=["checkpoint", 1]),
        "latent": node("EmptyLatentImage", width=pixels, height=pixels, batch_size=frames),
    }
    model, around = ["checkpoint", 0], {}
    if setting != PLAIN:
        if (of_context := context(setting, chunk)) is not None:
            nodes["context"] = node(of_context[0], **of_context[1])
            around = {"context_options": ["context", 0]}
        nodes["motion"] = node("ADE_LoadAnimateDiffModel", model_name="random_v2.safetensors")
        nodes["apply"] = node("ADE_ApplyAnimateDiffModelSimple", motion_model=["motion", 0])
        nodes["animated"] = node(
            "ADE_UseEvolvedSampling", model=model, m_models=["apply", 0], beta_schedule="autoselect", **around
        )
        model = ["animated", 0]
    nodes["sampler"] = node(
        "KSampler",
        model=model,
        positive=["positive", 0],
        negative=["negative", 0],
        latent_image=["latent", 0],
        seed=seed,  # never the same, or nothing would be computed
        steps=steps,
        cfg=7.5,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    )
    nodes["save"] = node("SaveLatent", samples=["sampler", 0], filename_prefix="long")
    return nodes


Settings = list[tuple[str, int]]  # with the frames of the clip


def measure_time(
    server: Server, options, settings: Settings, seeds: Iterator[int]
) -> dict[tuple[str, int], list[float]]:
    """Seconds per step of each round."""
    taken: dict[tuple[str, int], list[float]] = {one: [] for one in settings}
    loaded: set[str] = set()
    for _ in range(options.rounds):
        for setting, frames in settings:

            def run(steps: int, setting=setting, frames=frames) -> float:
                return seconds(server.queue(prompt(setting, frames, steps, options.pixels, next(seeds)), 7200))

            if setting not in loaded:
                run(1)  # loads what this setting needs
                loaded.add(setting)
            taken[setting, frames].append(run(options.steps) / options.steps)
            print(f"{setting}, {frames} frames: {taken[setting, frames][-1]:.2f} s/step", flush=True)
    return taken


def measure_memory(server: Server, options, settings: Settings, seeds: Iterator[int]) -> dict[tuple[str, int], float]:
    """GiB above the weights, in one step; empty where it cannot be read."""
    peaks = {}
    for setting, frames in settings:
        for _ in range(2):  # the first one loads what this setting needs
            held = held_memory(server.process.pid)
            forget_peak(server.process.pid)
            server.queue(prompt(setting, frames, 1, options.pixels, next(seeds), CHUNK), 7200)
            peak = peak_memory(server.process.pid)
        if held is not None and peak is not None:
            peaks[setting, frames] = peak - held
            print(f"{setting}, {frames} frames: {peak - held:.2f} GiB", flush=True)
    return peaks


def table(rows: list[dict], most: list[int]) -> str:
    lines = ["| windows | " + " | ".join(f"{frames} frames" for frames in most) + " |", "|---|" + "---|" * len(most)]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        cells = []
        for frames in most:
            row = find(rows, setting, frames)
            time, memory = (None, None) if row is None else (row["seconds_per_step"], row["peak_gib"])
            found = ("" if time is None else f"{time:.1f} s", "" if memory is None else f"{memory:.2f} GiB")
            cells.append(", ".join(filter(None, found)))
        lines.append(f"| {setting} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def row_of(setting: tuple[str, int], measured: dict[str, dict], earlier: dict) -> dict:
    """Of the JSON file: what was measured of a setting, with the rounds of an ``earlier`` row of it."""
    rounds = earlier.get("rounds", []) + measured.get("time", {}).get(setting, [])
    return {
        "setting": setting[0],
        "frames": setting[1],
        "seconds_per_step": statistics.median(rounds) if rounds else None,
        "rounds": rounds,
        "peak_gib": measured.get("memory", {}).get(setting, earlier.get("peak_gib")),
    }


def find(rows: list[dict], setting: str, frames: int) -> dict | None:
    return next((row for row in rows if (row["setting"], row["frames"]) == (setting, frames)), None)


def figures(rows: list[dict], kept: dict[int, float]) -> bool:
    """Print the figures that have limits. Returns whether all are reached."""
    reached = True

    def figure(
        name: str, above: tuple[str, int], below: tuple[str, int], limit: float, key="seconds_per_step", times=1.0
    ):
        nonlocal reached
        rows_of = find(rows, *above), find(rows, *below)
        if None in rows_of or None in (values := [row[key] for row in rows_of]):
            return
        value = values[0] / values[1] / times
        reached &= value <= limit
        print(f"figure {name} {value:.3f} {limit:g}")

    shared, static, one_motion = "shared 16/8", "static 16/8", "shared 16/8 one-motion"
    figure("shared_over_static", (shared, 64), (static, 64), 0.60)
    figure("shared_over_plain", (shared, 64), (PLAIN, 64), 1.42)
    figure("overlap_12_over_4", ("shared 16/12", 64), ("shared 16/4", 64), 1.05)
    figure("one_motion_on_over_off", (one_motion, 64), (shared, 64), 1.08)
    figure("memory_128_over_16_frames", (shared, 128), (NO_WINDOWS, SHORT), 2.0, key="peak_gib")
    figure("256_over_64_frames_by_length", (shared, 256), (shared, 64), 1.05, times=4)
    for frames, bytes_kept in kept.items():
        print(f"reckoned for hidden state and skip connections, {frames} frames: {bytes_kept:.3f} GiB")
    return reached


def draw(rows: list[dict], lengths: list[int], file: Path, host) -> None:
    """Seconds per step over the frames of the clip, a line for each setting."""
    from pack import load_pack

    plot = load_pack(host.path, ["--cpu"]).submodule("metrics.plot")
    left, right, top, bottom = 90, 250, 50, 430
    canvas = plot.Canvas(960, 480)
    canvas.text((left, 14), "seconds per step over the frames of the clip", plot.FONT, plot.INK)
    highest = max(row["seconds_per_step"] for row in rows if row["frames"] in lengths)
    axis, decimals = plot.ticks(0.0, highest)

    def at(frames: float, value: float) -> tuple[float, float]:
        return left + (960 - left - right) * frames / max(lengths), bottom + (top - bottom) * value / axis[-1]

    for tick in axis:
        canvas.line([at(0, tick), at(max(lengths), tick)], plot.GRID, 1)
        canvas.text((left - 10, at(0, tick)[1]), f"{tick:.{decimals}f}", plot.SMALL_FONT, plot.GREY, "rm")
    for frames in lengths:
        canvas.text((at(frames, 0)[0], bottom + 7), str(frames), plot.SMALL_FONT, plot.GREY, "ma")
    ends = []
    for i, setting in enumerate(dict.fromkeys(row["setting"] for row in rows if row["frames"] in lengths)):
        colour = plot.COLOURS[i % len(plot.COLOURS)]
        points = [at(row["frames"], row["seconds_per_step"]) for row in rows if row["setting"] == setting]
        canvas.line(points, colour, 3)
        for point in points:
            canvas.dot(point, colour, 4)
        ends.append((points[-1], setting, colour))
    height = float("inf")
    for (x, y), setting, colour in sorted(ends, key=lambda end: -end[0][1]):
        height = min(y, height - 18)  # names must not lie on each other
        canvas.text((x + 12, height), setting, plot.SMALL_FONT, colour, "lm")
    canvas.image.resize(canvas.size).save(file)


def kept_gib(host, frames: list[int], pixels: int, weights: Path) -> dict[int, float]:
    """What is reckoned for the UNet's hidden state and skip connections, for cond and uncond in float32."""
    from clip import load_checkpoint
    from pack import load_pack

    pack = load_pack(host.path, ["--cpu"])
    import torch

    model, *_ = load_checkpoint(weights / "checkpoints" / "random_sd15.safetensors")
    kept_bytes = pack.submodule("motion_models.network.frame_chunks").kept_bytes
    latents = {n: torch.empty(2 * n, 4, pixels // 8, pixels // 8, device="meta") for n in frames}
    return {n: kept_bytes(model.model.diffusion_model, x) / 2**30 for n, x in latents.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    packs.add_arguments(parser)
    parser.add_argument("--measure", nargs="*", default=["time", "memory"], choices=["time", "memory"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--add", action="store_true", help="count the rounds that are in the JSON file as well")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.add and options.json is None:
        parser.error("--add needs --json, the file that the rounds are added to.")

    host = hosts.host()
    weights = hosts.weights(host)
    settings = [(setting, frames) for frames in options.frames for setting in options.settings]
    settings.append((NO_WINDOWS, SHORT))
    if len(options.pack or ()) > 1:
        packs.compare(host, weights, options, settings)
        return 0
    (pack,) = packs.of(options)
    seeds = iter(range(1_000_000))

    @contextmanager
    def server() -> Iterator[Server]:
        with (
            tempfile.TemporaryDirectory() as folder,
            Server(host, folder, models=[weights], packs=[pack], device=options.device) as started,
        ):
            yield started

    measured: dict[str, dict[tuple[str, int], Any]] = {}
    for what, measure, environment in (
        ("time", measure_time, {}),
        ("memory", measure_memory, {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}),
    ):
        if what in options.measure:
            os.environ |= environment
            with server() as started:
                served = started.object_info()
                settings = [
                    one for one in settings if (of_context := context(one[0])) is None or of_context[0] in served
                ]
                measured[what] = measure(started, options, settings, seeds)
    earlier = json.loads(options.json.read_text(encoding="utf-8")) if options.add else []
    rows = [row_of(one, measured, find(earlier, *one) or {}) for one in settings]
    rows += [row for row in earlier if find(rows, row["setting"], row["frames"]) is None]
    rows.sort(key=lambda row: ((*SETTINGS, NO_WINDOWS).index(row["setting"]), row["frames"]))
    print(f"\n{options.pixels} px, cond and uncond, {os.environ.get('OMP_NUM_THREADS', os.cpu_count())} threads\n")
    lengths = sorted({row["frames"] for row in rows if row["setting"] != NO_WINDOWS})
    print(table(rows, lengths), "\n")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.plot and all(row["rounds"] for row in rows):
        draw(rows, lengths, options.plot, host)
    kept = kept_gib(host, [SHORT, *lengths], options.pixels, weights) if pack == ROOT else {}
    return 0 if figures(rows, kept) else 1


if __name__ == "__main__":
    raise SystemExit(main())
