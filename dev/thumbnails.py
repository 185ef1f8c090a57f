"""Make the example workflows' thumbnails: `python dev/thumbnails.py [NAME ...]`; all of them without names.

ComfyUI's list of templates asks for NAME.jpg, so a thumbnail is a sheet of frames, in rows: clips of the toy world, from the
pictures in docs/ (`nox -s demo -- --plain` makes them again), or sampled here with the workflow itself. What goes into a workflow has a
frame around it, and is drawn by code. For models that the toy world has none of (ControlNet, SparseCtrl, PIA and such), its ordinary
clips stand in; for SDXL and CameraCtrl, drawn ones.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import hosts
import numpy as np
from PIL import Image, ImageFilter, ImageOps, ImageSequence
from server import Server

from examples import NAMES, ROOT, in_toyworld, workflow_file

sys.path.insert(0, str(ROOT))
from toyworld import scenes
from toyworld.videos import path_towards, write_video

WIDTH, GAP = 336, 4
QUALITY = 60  # higher ones look the same, and the package of the registry is to stay small
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

    def clip(self, name: str, caption: str | None = None, shown: str = "webp", **changes) -> Row:
        """What node ``shown`` of the workflow saves, with ``changes`` of inputs and ``caption`` for positive prompt."""
        prompt = in_toyworld(name, **{"steps": 12, "cfg": 3.0, "text": "", "lossless": True, **changes})
        if caption:
            node, input = ("prompt", "value") if "prompt" in prompt else ("positive", "text")
            prompt[node]["inputs"][input] = caption
        saved = self.server.queue(prompt)["outputs"][shown]
        frames = []
        for file in self.server.outputs({"outputs": {shown: saved}}):
            with Image.open(file) as animation:
                frames += [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]
        return frames

    def video(self, caption: str) -> Row:
        """A training video of the ``caption`` going to the right, laid into the input folder as video.avi."""
        path = path_towards("right")(np.random.default_rng(5), caption=caption)
        write_video(self.server.run / "input" / "video.avi", scenes.video(path))
        return as_pictures(path)

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
        given_frames = self.video("a green square")
        cloned = self.clip("motion_clone", "a red circle", file="video.avi", steps=24)
        return [given(some(given_frames, 4)), some(cloned, 4)]

    def draw_a_path(self) -> list[Row]:
        return rows(some(self.clip("draw_a_path", "a red circle", "over_preview", word="circle"), 6), 3)

    def camera_path(self) -> list[Row]:
        return rows(some(self.clip("camera_path", "a yellow square", "over_preview"), 6), 3)

    def path_from_video(self) -> list[Row]:
        given_frames = self.video("a green square")
        frames = self.clip("path_from_video", "a red circle", "over_preview", word="circle", file="video.avi")
        return [given(some(given_frames, 4)), some(frames, 4)]

    def prompts_apart(self) -> list[Row]:
        entries = '"0:": "a red circle", "16:": "a blue circle"'
        return rows(some(self.clip("prompts_apart", prompts=entries), 16), 4)


SAMPLED = {
    make.__name__: make
    for make in (
        Sampler.seamless_loop,
        Sampler.prompt_travel,
        Sampler.image_injection,
        Sampler.motion_clone,
        Sampler.draw_a_path,
        Sampler.camera_path,
        Sampler.path_from_video,
        Sampler.prompts_apart,
    )
}


def sampled_sheets(names: Iterable[str]) -> Iterator[tuple[str, list[Row]]]:
    host = hosts.host()
    with tempfile.TemporaryDirectory() as tmp, Server(host, Path(tmp), models=[hosts.toyworld_models(host)]) as server:
        for name in names:
            yield name, SAMPLED[name](Sampler(server))


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


def sheets(names: list[str]) -> Iterator[tuple[str, list[Row]]]:
    yield from ((name, SHEETS[name]) for name in names if name in SHEETS)
    if sampled := [name for name in names if name in SAMPLED]:
        yield from sampled_sheets(sampled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    for name, lines in sheets(parser.parse_args().names):
        path = workflow_file(name).with_suffix(".jpg")
        sheet(lines).save(path, quality=QUALITY, optimize=True, progressive=True)
        print(path.name, f"{path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
