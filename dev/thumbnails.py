"""Make the example workflows' thumbnails: `python dev/thumbnails.py`.

ComfyUI's list of templates asks for NAME.jpg, so a thumbnail is a sheet of frames, in rows: clips of the toy world, from the
pictures in docs/ (`nox -s demo` makes them again), or sampled here with the workflow itself. What goes into a workflow has a
frame around it, and is drawn by code. For models that the toy world has none of (ControlNet, SparseCtrl, PIA and such), its ordinary
clips stand in; for SDXL and CameraCtrl, drawn ones.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import hosts
import numpy as np
from PIL import Image, ImageFilter, ImageOps, ImageSequence
from server import Server

from examples import ROOT, in_toyworld, workflow_file

sys.path.insert(0, str(ROOT))
from toyworld import scenes
from toyworld.videos import path_towards, write_video

WIDTH, GAP = 384, 4
GIVEN = "#e08030"  # the frame of what goes in
Row = list[Image.Image]


def cut(picture: str, row: int, tile: int, title: int) -> Row:
    """The frames of a row of a contact sheet, each row with its title above it."""
    with Image.open(ROOT / "docs" / picture) as sheet:
        whole, top = sheet.convert("RGB"), row * (tile + title) + title
    return [whole.crop((left, top, left + tile, top + tile)) for left in range(0, whole.width, tile)]


def plot(picture: str) -> Row:
    with Image.open(ROOT / "docs" / picture) as whole:
        return [whole.convert("RGB")]


CIRCLE, TO_THE_RIGHT, RESTYLED, STILLS = (cut("toyworld.png", row, 160, 30) for row in range(4))
ONE_MOTION, STATIC = (cut("long-clips.png", row, 80, 30) for row in range(2))


def some(frames: Row, count: int) -> Row:
    """``count`` of the frames, from the first to the last."""
    return [frames[round(i * (len(frames) - 1) / max(count - 1, 1))] for i in range(count)]


def rows(frames: Row, across: int) -> list[Row]:
    return [frames[i : i + across] for i in range(0, len(frames), across)]


def given(frames: Row) -> Row:
    return [ImageOps.expand(frame, max(1, frame.width // 24), GIVEN) for frame in frames]


def as_pictures(path: list[scenes.Scene]) -> Row:
    return [Image.fromarray((np.clip(frame, 0, 1) * 255).astype(np.uint8)) for frame in scenes.video(path)]


def video(motion: str | None, caption: str, count: int, seed: int = 5) -> Row:
    """Frames of a training video: ``motion`` is that of a MotionLoRA, None is any."""
    path = path_towards(motion) if motion else scenes.random_path
    return some(as_pictures(path(np.random.default_rng(seed), caption=caption)), count)


def edges(frames: Row) -> Row:
    return [
        frame.convert("L").filter(ImageFilter.FIND_EDGES).point(lambda v: 255 * (v > 40)).convert("RGB")
        for frame in frames
    ]


def zoomed(caption: str, count: int) -> Row:
    return video("zoom-in", caption, count)


SHEETS: dict[str, list[Row]] = {
    "txt2vid": rows(CIRCLE, 4) + rows(TO_THE_RIGHT, 4),
    "image_to_video": [given(CIRCLE[:1]) + CIRCLE[1:3], CIRCLE[3:6]],
    "video_to_video": [
        given(video(None, "a yellow triangle", 4)),
        given(edges(video(None, "a yellow triangle", 4))),
        *rows(RESTYLED, 4),
    ],
    "long_clip": rows(ONE_MOTION, 4),
    "use_motion_lora": rows(TO_THE_RIGHT[:6], 3),
    "few_steps": rows(some(CIRCLE, 6), 3),
    "sdxl": [*rows(video("up", "a blue triangle", 8), 4), some(RESTYLED, 4)],
    "sparse_control": [given(CIRCLE[:1]) + given(CIRCLE[-1:]), CIRCLE[1:5]],
    "pia": [given(TO_THE_RIGHT[:1]) + TO_THE_RIGHT[2:4], TO_THE_RIGHT[4:7]],
    "camera": [plot("camera.png"), zoomed("a yellow square", 4)],
    "context_extras": rows(STATIC, 8) + rows(ONE_MOTION, 8),
    "train_motion_lora": [given(video("right", caption, 4)) for caption in ("a red square", "a green circle")]
    + rows(TO_THE_RIGHT, 4),
    "train_domain_adapter": [given(video(None, "a red circle", 3)), some(STILLS, 3)],
    "train_motion_module": [
        given(video(None, caption, 5)) for caption in ("a red circle", "a green square", "a blue triangle")
    ]
    + [some(CIRCLE, 5), some(RESTYLED, 5)],
    "train_from_video_folder": [
        given(video("up", caption, 4, seed)) for seed, caption in enumerate(scenes.CAPTIONS[::3], 1)
    ],
    "train_with_checkpoints": [some(STILLS, 4), some(CIRCLE, 4), some(TO_THE_RIGHT, 4)],
    "one_shot": [given(video("right", "a yellow triangle", 3)), some(TO_THE_RIGHT, 3)],
    "merge_motion_models": [given(some(CIRCLE, 4)), some(TO_THE_RIGHT, 4), given(some(RESTYLED, 4))],
    "metrics": [some(CIRCLE, 4), plot("metrics.png")],
}


class Sampler:
    """Example workflows on a server with the toy world's models."""

    def __init__(self, server: Server):
        self.server = server

    def clip(self, name: str, caption: str | None = None, **changes) -> Row:
        """The frames of the workflow's animation, with ``changes`` of inputs and ``caption`` for positive prompt."""
        prompt = in_toyworld(name, **{"steps": 12, "cfg": 3.0, "text": "", "lossless": True, **changes})
        if caption:
            prompt["positive"]["inputs"]["text"] = caption
        (file,) = (file for file in self.server.outputs(self.server.queue(prompt)) if file.suffix == ".webp")
        with Image.open(file) as animation:
            return [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]

    def seamless_loop(self) -> list[Row]:
        """Eight frames around an empty place: the last goes over into the first."""
        frames = self.clip("seamless_loop", "a green triangle")
        a = frames[:: len(frames) // 8]
        return [a[:3], [a[7], Image.new("RGB", a[0].size, "white"), a[3]], [a[6], a[5], a[4]]]

    def prompt_travel(self) -> list[Row]:
        entries = '"0": "a red circle", "31": "a blue circle"'
        return rows(some(self.clip("prompt_travel", prompts=entries), 16), 4)

    def image_injection(self) -> list[Row]:
        picture = video(None, "a yellow square", 1)
        picture[0].save(self.server.run / "input" / "example.png")
        return rows(given(picture) + some(self.clip("image_injection", "a yellow square"), 5), 3)

    def motion_clone(self) -> list[Row]:
        path = path_towards("right")(np.random.default_rng(5), caption="a green square")
        write_video(self.server.run / "input" / "video.avi", scenes.video(path))
        cloned = self.clip("motion_clone", "a red circle", file="video.avi", steps=24)
        return [given(some(as_pictures(path), 4)), some(cloned, 4)]


SAMPLED = (Sampler.seamless_loop, Sampler.prompt_travel, Sampler.image_injection, Sampler.motion_clone)


def sampled_sheets() -> dict[str, list[Row]]:
    host = hosts.host()
    with tempfile.TemporaryDirectory() as tmp, Server(host, Path(tmp), models=[hosts.toyworld_models(host)]) as server:
        return {make.__name__: make(Sampler(server)) for make in SAMPLED}


def sheet(lines: list[Row]) -> Image.Image:
    """The rows below each other, each as wide as the sheet."""
    top, placed = 0, []
    for line in lines:
        tile = (WIDTH - GAP * (len(line) - 1)) / len(line)
        height = round(tile * line[0].height / line[0].width)
        small = [frame.resize((round(tile), height), Image.Resampling.LANCZOS) for frame in line]
        placed += [(frame, round(i * (tile + GAP)), top) for i, frame in enumerate(small)]
        top += height + GAP
    picture = Image.new("RGB", (WIDTH, top - GAP), "white")
    for frame, left, upper in placed:
        picture.paste(frame, (left, upper))
    return picture


def main() -> None:
    for name, lines in {**SHEETS, **sampled_sheets()}.items():
        path = workflow_file(name).with_suffix(".jpg")
        sheet(lines).save(path, quality=72, optimize=True, progressive=True)
        print(path.name, f"{path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
