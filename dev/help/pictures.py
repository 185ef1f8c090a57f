"""The pictures of the help pages, web/docs/pictures/*.webp: `python dev/help/pictures.py` draws all anew, with a NAME only that one.

Each shows what the pack's own functions give: windows, weights, curves, noise, ways of the camera.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import kit
import rows  # noqa: F401 - its pictures
from kit import (
    BLUE,
    DARK,
    EDGE,
    FONT,
    GREEN,
    GREY,
    GRID,
    INK,
    ORANGE,
    RED,
    SMALL,
    WIDTH,
    arrow_head,
    canvas,
    curve,
    drawing,
    drawings,
    key,
    mixed,
    panel,
    part,
)

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "web" / "docs" / "pictures"
COLOURS = 32  # of a file: enough for smooth letters


@drawing
def fuse_weights() -> Any:
    fuse = part("sampling.windows.fuse")
    window = list(range(12, 28))
    plain = ["pyramid", "flat", "overlap-linear", "delayed reverse sawtooth"]
    by_sigma = ["pyramid-sigma", "pyramid-sigma inverse", "gauss-sigma", "gauss-sigma inverse"]
    picture = canvas(4 * 92 + 34)
    for i, method in enumerate([*plain, *by_sigma]):
        left, top = EDGE + 200 * (i % 2), 28 + 92 * (i // 2)
        levels = {RED: 0.3, BLUE: 4.0} if method in by_sigma else {BLUE: 4.0}
        made = {c: fuse.fuse_weights(method, window, fuse.FuseContext(40, 4, sigma)) for c, sigma in levels.items()}
        highest = max(float(weights.max()) for weights in made.values())
        at = panel(picture, (left, top, left + 180, top + 54), (0, 15), (0, 1.05 * highest))
        picture.text((left, top - 6), method.replace("delayed reverse", "del. rev."), SMALL, INK, "ls")
        for colour, weights in made.items():
            curve(picture, [at(frame, weight) for frame, weight in enumerate(weights.tolist())], colour)
    key(picture, EDGE, 4 * 92 + 20, {"early in the sampling": BLUE})
    key(picture, EDGE + 200, 4 * 92 + 20, {"late": RED})
    return picture


@drawing
def value_schedule() -> Any:
    text, frames = "0 = 0.8, 8 = 1.3, 12: = 1.0", 20
    numbers = part("scheduling.values").values_per_frame(
        part("scheduling.grammar").parse_values("values", text, frames)
    )
    picture = canvas(200)
    names = {"title": text, "x_name": "frame", "x_ticks": range(0, frames, 4), "y_ticks": (0.8, 1.0, 1.2)}
    at = panel(picture, (44, 32, WIDTH - EDGE, 150), (0, frames - 1), (0.6, 1.4), **names)
    curve(picture, [at(frame, number) for frame, number in enumerate(numbers)], BLUE, dots=True)
    return picture


class TwoTexts:
    """In place of a CLIP: the text b is encoded as 1, another one as 0."""

    use_clip_schedule = False

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens(self, text: str, return_pooled: bool) -> tuple:
        import torch

        return torch.full((1, 1, 1), float(text == "b")), None

    def add_hooks_to_dict(self, options: dict) -> dict:
        return options


@drawing
def prompt_blend() -> Any:
    prompts, frames = part("scheduling.prompts"), 16
    schedule = part("scheduling.grammar").parse_prompts("prompts", '0 = "a", 15 = "b"', frames)
    picture = canvas(250)
    names = {
        "title": "share of the second prompt",
        "x_name": "frame",
        "x_ticks": (0, 5, 10, 15),
        "y_ticks": (0, 0.5, 1),
    }
    at = panel(picture, (44, 32, WIDTH - EDGE, 150), (0, frames - 1), (0, 1), **names)
    nothing = prompts.Texts("", "", ())
    for colour, compounding in ((ORANGE, True), (BLUE, False)):
        made = prompts.scheduled_conditioning(TwoTexts(), schedule, nothing, compounding=compounding)
        curve(
            picture, [at(frame, share) for frame, share in enumerate(made[0][0].flatten().tolist())], colour, dots=True
        )
    key(picture, 44, 212, {"Prompt Scheduling (compounding)": ORANGE, "Prompt Scheduling (Even), linear": BLUE})
    return picture


@drawing
def motion_strength() -> Any:
    strengths, text = part("scheduling.strengths"), "0.0: 1.2, 0.3: 1.0, 0.8: 0.6"
    picture = canvas(200)
    names = {"title": text, "x_name": "0: pure noise, 1: the finished clip"}
    ticks = {"x_ticks": (0, 0.2, 0.4, 0.6, 0.8, 1), "y_ticks": (0.6, 0.8, 1.0, 1.2)}
    at = panel(picture, (44, 32, WIDTH - EDGE, 150), (0, 1), (0.4, 1.4), **names, **ticks)
    for name, colour in (("linear", ORANGE), ("hold", BLUE)):
        schedule = strengths.strength_schedule("strengths", text, name)
        curve(picture, [at(i / 500, schedule.at(i / 500)) for i in range(501)], colour)
    key(picture, 300, 44, {"hold": BLUE, "linear": ORANGE})
    return picture


@drawing
def interpolation() -> Any:
    methods = part("sampling.schedules.interpolation")
    picture = canvas(180)
    at = panel(picture, (50, 14, 250, 166), (0, 1), (0, 1))
    picture.text((44, 160), "start", SMALL, GREY, "rm")
    picture.text((44, 18), "end", SMALL, GREY, "rm")
    colours = dict(zip(methods.METHODS, (BLUE, RED, ORANGE, GREEN), strict=True))
    for name, colour in colours.items():
        curve(picture, [at(i / 60, y) for i, y in enumerate(methods.interpolated(0, 1, 61, name).tolist())], colour)
    key(picture, 268, 40, colours)
    return picture


@drawing
def pia_presets() -> Any:
    likeness, frames = part("sampling.adapters.likeness"), 16
    picture = canvas(206)
    colours = {"Small": BLUE, "Medium": ORANGE, "Large": RED}
    for i, kind in enumerate(("Animation", "Loop", "Style Transfer")):
        left = 34 + 124 * i
        y_ticks = (0.5, 1) if i == 0 else ()
        at = panel(
            picture, (left, 32, left + 110, 140), (0, 15), (0, 1.05), title=kind, x_ticks=(0, 10), y_ticks=y_ticks
        )
        for amount, colour in colours.items():
            values = likeness.likeness(f"{kind} ({amount} Motion)", 0, frames)
            curve(picture, [at(frame, value) for frame, value in enumerate(values)], colour)
    for i, (amount, colour) in enumerate(colours.items()):
        key(picture, 34 + 124 * i, 182, {amount: colour})
    return picture


@drawing
def sigma_schedules() -> Any:
    import comfy.model_base

    schedules = part("sampling.schedules.beta_schedules")
    picture = canvas(330)
    names = ("sqrt_linear (AnimateDiff)", "linear (AnimateDiff-SDXL)", "linear (HotshotXL/default)", "cosine")
    at = panel(picture, (44, 32, WIDTH - EDGE, 200), (0, 1), (-2, 3), title="noise level (sigma)")
    for power in range(-1, 3):
        picture.line([at(0, power), at(1, power)], GRID, 1)
        picture.text((38, at(0, power)[1]), f"{10.0**power:g}", SMALL, GREY, "rm")
    picture.text((44, 206), "pure noise", SMALL, GREY)
    picture.text((WIDTH - EDGE, 206), "finished clip", SMALL, GREY, "ra")
    colours = dict(zip(names, (BLUE, ORANGE, GREEN, RED), strict=True))
    for name, colour in colours.items():
        sigmas = schedules.model_sampling(name, comfy.model_base.ModelType.EPS).sigmas.flip(0)[::8].tolist()
        levels = [min(max(math.log10(sigma), -2), 3) for sigma in sigmas]
        curve(picture, [at(i / (len(levels) - 1), level) for i, level in enumerate(levels)], colour)
    key(picture, 44, 248, colours)
    return picture


@drawing
def positions() -> Any:
    import torch

    table = torch.arange(32, dtype=torch.float32).view(1, -1, 1)
    adjust = part("motion_models.files.adjust")
    picture = canvas(240)
    names = {"title": "position that a frame has", "x_name": "frame of the clip"}
    ticks = {"x_ticks": (0, 8, 16, 23), "y_ticks": (0, 8, 15, 23)}
    at = panel(picture, (44, 32, WIDTH - EDGE, 150), (0, 23), (0, 24), **names, **ticks)
    for colour, change in ((GREY, {}), (BLUE, {"cap": 16, "length": 24})):
        found = adjust.PositionAdjustment(**change).adjusted(table).flatten().tolist()[:24]
        curve(picture, [at(frame, position) for frame, position in enumerate(found)], colour)
    key(picture, 44, 206, {"as it is": GREY, "Adjust PE (Sweetspot), 16 to 24": BLUE})
    return picture


@drawing
def one_motion() -> Any:
    import torch

    frames, basis = 64, part("sampling.windows.one_motion").cosine_basis(64, 0.25)
    time = torch.arange(frames, dtype=torch.float32)
    wave = 0.05 * torch.sin(time * 2.4)
    one = 0.15 + 0.7 * time / frames
    # windows of 16 that go on from each other, each with a direction of its own
    slopes = torch.tensor([0.02, -0.013, 0.024, -0.008]).repeat_interleave(16)
    each = 0.3 + slopes.cumsum(0) + wave
    both = basis @ (basis.T @ one) + each - basis @ (basis.T @ each)
    picture = canvas(3 * 104 + 30)
    curves = {"windows alone": each, "all frames together": one, "one_motion 1: both": both}
    for i, (title, values) in enumerate(curves.items()):
        top = 28 + 104 * i
        at = panel(picture, (EDGE, top, WIDTH - EDGE, top + 64), (0, frames - 1), (0, 1), title=title)
        for border in (16, 32, 48) if i != 1 else ():
            picture.line([at(border - 0.5, 0), at(border - 0.5, 1)], GRID, 2)
        curve(picture, [at(x, y) for x, y in enumerate(values.tolist())], (ORANGE, GREEN, BLUE)[i])
    picture.text((EDGE, 3 * 104 + 6), "where a thing is, over 64 frames (a sketch)", SMALL, GREY)
    return picture


@drawing
def multival() -> Any:
    import torch

    strength = part("sampling.strength.multival")
    picture = canvas(184)
    per_frame = strength.of_numbers([0.8 + 0.5 * i / 15 for i in range(16)]).flatten().tolist()
    for i, (title, values) in enumerate({"1.2": [1.2] * 16, "list": per_frame}.items()):
        left = 34 + 132 * i
        at = panel(
            picture,
            (left, 32, left + 100, 140),
            (0, 16),
            (0, 1.5),
            title=title,
            x_name="frame",
            x_ticks=(0, 8, 15),
            y_ticks=(0.5, 1),
        )
        for frame, value in enumerate(values):
            picture.line([at(frame + 0.5, 0), at(frame + 0.5, value)], BLUE, 5)
    ramp = torch.linspace(0, 1, 8)
    shape = (1 - 2 * ((ramp[:, None] - 0.5) ** 2 + (ramp[None] - 0.5) ** 2)).clamp(0, 1)
    values = strength.scaled_mask(shape[None], 0.6, 1.1, relative=True)[0]
    left, top, side = 288, 32, 13
    picture.text((left, top - 8), "mask", FONT, INK, "ls")
    for row, line in enumerate(values.tolist()):
        for place, value in enumerate(line):
            y = top + side * (row + 0.5)
            colour = mixed("#e8f0f5", DARK, (value - 0.6) / 0.5)
            picture.line([(left + side * place, y), (left + side * (place + 1), y)], colour, side)
    picture.text((left, top + 8 * side + 6), "the picture", SMALL, GREY)
    return picture


@drawing
def camera_moves() -> Any:
    """How a wall of points moves in the picture, by projection with the poses themselves."""
    import numpy as np

    camera = part("motion_models.adapters.camera")
    names = [name for name in camera.MOTIONS if name != "Static"]
    grid = [(x, y) for x in np.linspace(-0.7, 0.7, 3) for y in np.linspace(-0.6, 0.6, 3)]
    picture = canvas(4 * 106 + 6)
    for i, name in enumerate(names):
        left, top, width, height = EDGE + 130 * (i % 3), 26 + 106 * (i // 3), 120, 70
        picture.text((left, top - 6), name.replace("clockwise", "clock."), SMALL, INK, "ls")
        corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height), (left, top)]
        picture.line(corners, GREY, 1)
        first, *_, last = camera.moving([(name, 1.0)], 1.0, 6)
        for x, y in grid:
            point = np.array([4 * x / 0.95, 4 * y / 1.69, 4.0, 1.0])
            ways = [_seen(pose, point, camera) for pose in (first, last)]
            if not all(0 <= u <= 1 and 0 <= v <= 1 for u, v in ways):
                continue
            start, end = ((left + width * u, top + height * v) for u, v in ways)
            if math.dist(start, end) > 1:
                picture.line([start, end], BLUE, 2)
                arrow_head(picture, start, end, BLUE, 6)
            else:
                picture.dot(start, BLUE, 2)
    return picture


def _seen(pose: list[float], point: Any, camera: Any) -> tuple[float, float]:
    """Where in the picture a point is, from 0 to 1."""
    import numpy as np

    x, y, z = np.array(pose[camera.MATRIX]).reshape(3, 4) @ point
    return pose[camera.FX] * x / z + pose[camera.CX], pose[camera.FY] * y / z + pose[camera.CY]


@drawing
def motion_path() -> Any:
    """An arc and a way that comes nearer."""
    paths, places = part("sampling.paths.path"), part("scheduling.places")
    texts = {
        "cat": "0: 0.22,0.65  3: 0.27,0.44  6: 0.41,0.32  9: 0.59,0.32  12: 0.73,0.44  15: 0.78,0.65",
        "bus": "0: 0.5,0.6,0.1  15: 0.35,0.75,0.3",
    }
    form = places.boxes(paths.FARTHEST, (paths.SMALLEST, paths.LARGEST))
    both = None
    for word, text in texts.items():
        both = paths.from_numbers(places.parse_places("places", text, form), 0.2, 0.2, "linear", word).and_also(both)
    return part("metrics.path_picture").path_canvas(both.at(16), list(texts), 3, 2, 280)


@drawing
def camera_path() -> Any:
    """A pan to the right, in which the camera comes nearer and rolls."""
    camera = part("sampling.paths.camera")
    moves = [(0, (0.0, 0.0)), (8, (0.35, 0.0)), (15, (0.6, -0.1, 1.8, 20.0))]
    outlines = camera.outlines(camera.from_moves(moves, "linear", 1.0).at(16), 3, 2)
    no_boxes = part("sampling.paths.path").MotionPath().at(16)
    return part("metrics.path_picture").path_canvas(no_boxes, [], 3, 2, 280, outlines)


def save(name: str, picture: Any) -> int:
    """Write a picture with few colours, which takes few bytes; returns how many."""
    from PIL import Image

    pixels = (picture.tensor()[0] * 255).round().byte().numpy()
    few = Image.fromarray(pixels).quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).convert("RGB")
    path = PICTURES / f"{name}.webp"
    few.save(path, lossless=True, quality=100, method=6)
    return path.stat().st_size


def main() -> None:
    sys.path.insert(0, str(ROOT / "dev"))
    import hosts
    from pack import load_pack

    kit.pack[:] = [load_pack(hosts.host().path, ["--cpu"])]
    PICTURES.mkdir(parents=True, exist_ok=True)
    names = sys.argv[1:] or list(drawings)
    for file in PICTURES.glob("*.webp"):
        if file.stem not in drawings:
            file.unlink()
    sizes = {name: save(name, drawings[name]()) for name in names}
    print(*(f"{size:>7,} {name}" for name, size in sizes.items()), f"{sum(sizes.values()):>7,} in all", sep="\n")


if __name__ == "__main__":
    main()
