"""Motion paths: made of numbers, masks, clips and tracks, drawn, and followed."""

from collections.abc import Callable

import torch
from comfy_api.latest import io

from ...metrics.path_picture import over_frames, path_canvas
from ...sampling.animate import with_inner_feature
from ...sampling.paths.camera import middles, outlines
from ...sampling.paths.follow import DEFAULT_ATTENTION, DEFAULT_END, DEFAULT_NOISE, FollowPath
from ...sampling.paths.found import from_clip
from ...sampling.paths.keys import FARTHEST, PathError
from ...sampling.paths.path import LARGEST, SMALLEST, MotionPath, from_masks, from_numbers, from_tracks
from ...sampling.paths.words import words_of
from ...sampling.schedules.interpolation import METHODS
from ...scheduling.places import boxes, parse_places
from .. import sockets
from ..base import node
from ..values import at_least, at_most

CATEGORY = "AnimateDiff/paths"
MOST_FRAMES = 10_000
OUTPUTS = [sockets.MotionPath.Output("MOTION_PATH")]
LAST_INPUTS = [
    io.String.Input(
        "word",
        default="",
        optional=True,
        tooltip="What the prompt calls the thing that moves, such as cat. Empty: the path is that of the whole prompt.",
    ),
    sockets.MotionPath.Input("prev_path", optional=True, tooltip="The paths of other things, which this one joins."),
]


def _side(name: str, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=0.3, min=SMALLEST, max=LARGEST, step=0.01, tooltip=tooltip)


def pixels(name: str, what: str) -> io.Input:
    return io.Int.Input(name, default=512, min=1, max=16384, tooltip=what)


def _frames(tooltip: str, least: int = 0, default: int = 0) -> io.Input:
    return io.Int.Input("frames", default=default, min=least, max=MOST_FRAMES, tooltip=tooltip)


SPREAD = _frames("Over how many frames the whole way goes: as many as the clip has. 0: one frame of the clip for each.")
SIZES = [
    _side("box_width", "How wide the thing is, as a share of the picture. A little larger is better than too small."),
    _side("box_height", "How high the thing is, as a share of the picture."),
]


def _check(**sides: float) -> None:
    for name, side in sides.items():
        at_least(name, side, SMALLEST)
        at_most(name, side, LARGEST, "it is a share of the picture, not pixels")


def _numbers(places: str, box_width: float, box_height: float, ease: str, word: str = "", prev_path=None):
    _check(box_width=box_width, box_height=box_height)
    found = parse_places("places", places, boxes(FARTHEST, (SMALLEST, LARGEST)))
    return from_numbers(found, box_width, box_height, ease, word).and_also(prev_path)


def _spread(path: MotionPath, frames: int, prev_path: MotionPath | None) -> MotionPath:
    if frames:
        path = MotionPath(tuple(one.over(frames) for one in path.objects))
    return path.and_also(prev_path)


def _masks(masks: torch.Tensor, margin: float, frames: int, word: str = "", prev_path=None) -> MotionPath:
    at_least("margin", margin, 0)
    pictures = masks.reshape(-1, *masks.shape[-2:])
    return _spread(from_masks(pictures, margin, word), frames, prev_path)


def _clip(
    margin: float,
    frames: int,
    images: torch.Tensor | None = None,
    latents: dict | None = None,
    word: str = "",
    prev_path: MotionPath | None = None,
) -> MotionPath:
    at_least("margin", margin, 0)
    if (images is None) == (latents is None):
        many = "both images and latents" if images is not None else "neither images nor latents"
        raise PathError(f"Motion Path from Clip got {many}. Connect one of them: the frames of the clip.")
    clip = images.movedim(-1, 1) if images is not None else latents["samples"]  # pyright: ignore[reportOptionalSubscript]
    return _spread(from_clip(clip, margin, word), frames, prev_path)


def _tracks(
    tracks: dict,
    width: int,
    height: int,
    box_width: float,
    box_height: float,
    frames: int,
    word: str = "",
    prev_path=None,
) -> MotionPath:
    _check(box_width=box_width, box_height=box_height)
    return _spread(from_tracks(tracks, width, height, (box_width, box_height), word), frames, prev_path)


def _draw(path: MotionPath, frames: int, width: int, height: int, images: torch.Tensor | None = None) -> torch.Tensor:
    if images is not None:
        height, width = images.shape[1:3]
        seen = None if path.camera is None else middles(path.camera.at(len(images)), width, height)
        return over_frames(images, path.at(len(images)), seen)
    at_most("frames", frames, MOST_FRAMES, "no clip has more")
    seen = None if path.camera is None else outlines(path.camera.at(frames), width, height)
    return path_canvas(path.at(frames), [one.word for one in path.objects], width, height, outlines=seen).tensor()


def _follow(model, path: MotionPath, noise: float, attention: float, end_percent: float, clip=None, prompt: str = ""):
    at_least("noise", noise, 0)
    at_most("noise", noise, 1, "1 is the same coarse noise for all frames")
    at_least("attention", attention, 0)
    return with_inner_feature(model, FollowPath(path, words_of(path, clip, prompt), noise, attention, end_percent))


def _margin(of: str) -> io.Float.Input:
    return io.Float.Input(
        "margin",
        default=0.1,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip=f"How much wider the boxes are at each side, as a share of what {of}.",
    )


def _path_node(run: Callable, name: str, display_name: str, description: str, inputs: list[io.Input]):
    return node(
        run,
        node_id=f"AnimateDiffMotionPath{name}",
        display_name=display_name,
        category=CATEGORY,
        description=description,
        aliases=("trajectory", "FreeTraj", "TrailBlazer"),
        inputs=[*inputs, *LAST_INPUTS],
        outputs=OUTPUTS,
    )


NODES = [
    _path_node(
        _numbers,
        "",
        "Motion Path",
        "Where something is to be, from frame to frame: a box that moves between the places you write. For Follow Path.",
        [
            io.String.Input(
                "places",
                multiline=True,
                default="0: 0.25,0.5  15: 0.75,0.5",
                tooltip=(
                    "Frames and the middle of the box there: 0: 0.2,0.5  15: 0.8,0.5. x goes from 0 (left) to 1 (right), y from 0 (top) "
                    "to 1 (bottom). A third number is another size of the box there, a third and fourth are its width and height."
                ),
            ),
            *SIZES,
            io.Combo.Input(
                "ease",
                options=list(METHODS),
                tooltip="How it goes from place to place: linear evenly, ease_in begins slowly, ease_out ends slowly, ease_in_out both.",
            ),
        ],
    ),
    _path_node(
        _masks,
        "FromMasks",
        "Motion Path from Masks",
        "The path of what is white in masks, one for each frame: the boxes around it. For Follow Path.",
        [
            io.Mask.Input("masks", tooltip="A mask for each frame, white where the thing is."),
            _margin("is white"),
            SPREAD,
        ],
    ),
    _path_node(
        _clip,
        "FromClip",
        "Motion Path from Clip",
        "The path of what moves in a clip, over a ground that does not: the boxes around it. For Follow Path and Training Paths.",
        [
            _margin("moves"),
            SPREAD,
            io.Image.Input(
                "images", optional=True, tooltip="The frames of the clip. Pictures are more exact than latents."
            ),
            io.Latent.Input(
                "latents", optional=True, tooltip="The clip as latents, such as those of Video Folder to Clips."
            ),
        ],
    ),
    _path_node(
        _tracks,
        "FromTracks",
        "Motion Path from Tracks",
        "The path of ComfyUI's tracks (Generate Video Tracks, WanMove): lines and curves drawn with its nodes. For Follow Path.",
        [
            io.Custom("TRACKS").Input(
                "tracks", tooltip="Such as those of Generate Video Tracks. All of them are one thing."
            ),
            pixels("width", "The width that the tracks were made for."),
            pixels("height", "The height that the tracks were made for."),
            *SIZES,
            SPREAD,
        ],
    ),
    node(
        _draw,
        node_id="AnimateDiffDrawMotionPath",
        display_name="Draw Motion Path",
        category=CATEGORY,
        description="Draws where boxes and the camera move: over the frames of a clip, or the whole way in one picture.",
        inputs=[
            sockets.MotionPath.Input("path", tooltip="The path to draw."),
            _frames("How many frames the clip has; without images.", 1, 16),
            pixels("width", "The width of the clip; without images. Only the ratio to height counts."),
            pixels("height", "The height of the clip; without images."),
            io.Image.Input("images", optional=True, tooltip="The frames of a clip to draw boxes over."),
        ],
        outputs=[io.Image.Output("IMAGE", tooltip="The drawing, for Preview Image, or frames to save as a video.")],
    ),
    node(
        _follow,
        node_id="AnimateDiffFollowPath",
        display_name="Follow Path",
        category=CATEGORY,
        description=(
            "Things move where a path says, without training: attention keeps them in its boxes, and noise can move along. Connect it "
            "behind Use Evolved Sampling."
        ),
        aliases=("trajectory", "FreeTraj", "TrailBlazer"),
        inputs=[
            sockets.BEHIND_EVOLVED,
            sockets.MotionPath.Input("path", tooltip="Where things are to be, such as that of Motion Path."),
            io.Float.Input(
                "noise",
                default=DEFAULT_NOISE,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="How much of the coarse noise in a box moves along with it. Costs no time. 0: none. A camera has its own.",
            ),
            io.Float.Input(
                "attention",
                default=DEFAULT_ATTENTION,
                min=0.0,
                max=100.0,
                step=0.5,
                tooltip=(
                    "How strongly attention keeps things in their boxes. Raise it if they stray, lower it if they break. "
                    "0: not at all."
                ),
            ),
            sockets.percent(
                "end_percent",
                "Up to where in the sampling schedule attention is changed. Where things are is decided early.",
                default=DEFAULT_END,
            ),
            io.Clip.Input(
                "clip",
                optional=True,
                tooltip="The CLIP that reads the prompt. Needed where a path has a word; makes attention stronger without one, too.",
            ),
            io.String.Input(
                "prompt",
                multiline=True,
                default="",
                optional=True,
                tooltip="The positive prompt, in which the words of paths are looked up. Only with clip.",
            ),
        ],
        outputs=[sockets.MODEL_OUTPUT],
    ),
]
