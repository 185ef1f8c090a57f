"""Motion paths in a real server, on the toy world: made, drawn, followed, and gone in the next prompt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

CAPTION = "a red circle"


@pytest.fixture(scope="module")
def prompts(toyworld):
    return toyworld("prompts")


@pytest.fixture(scope="module")
def server(new_server, host, toyworld_models):
    with new_server(host, models=[toyworld_models]) as server:
        yield server


def pictures(server, prompt: dict) -> np.ndarray:
    """What a prompt saves, ``(frames, height, width, 3)``."""
    files = server.outputs(server.queue(prompt))
    return np.stack([np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file in files])


@pytest.fixture(scope="module")
def clip(prompts, toyworld):
    return replace(prompts.Clip(CAPTION, 960_500, frames=8), path=toyworld("path_claims").PATHS[0])


def test_a_path_is_followed_and_the_clip_behind_it_is_as_before(server, prompts, clip):
    """A-B-A: without, with, and without again, where the host has nothing left to take from its cache."""
    plain = replace(clip, path=None)
    # the host counts any denoise above 0.9999 as 1: its cache sees another prompt, the sampler the same
    made = []
    for i, one in enumerate((plain, clip, plain, clip)):
        prompt = prompts.sampling_prompt(one)
        prompt["sampler"]["inputs"]["denoise"] = 1.0 - i * 1e-6
        made.append(pictures(server, prompt))
    before, with_path, after, again = made
    assert np.array_equal(before, after)
    assert np.array_equal(with_path, again)
    assert np.abs(with_path - before).mean() > 0.01


def test_words_tracks_and_masks_go_through_a_graph(server, prompts, clip):
    """Two things: one by its word along tracks (numbers where the host has none), one by masks; drawn over the clip."""
    node, prompt = prompts.node, prompts.sampling_prompt(clip)
    sizes = {"box_width": 0.3, "box_height": 0.3}
    prompt["mask"] = node("SolidMask", value=1.0, width=64, height=64)
    prompt["masks"] = node("AnimateDiffMotionPathFromMasks", masks=["mask", 0], margin=0.0, frames=8, word="red")
    if "GenerateTracks" in server.object_info():
        ends = {"start_x": 0.2, "start_y": 0.2, "end_x": 0.8, "end_y": 0.8, "mid_x": 0.8, "mid_y": 0.2, "bezier": True}
        size = {"width": 64, "height": 64}
        prompt["tracks"] = node(
            "GenerateTracks", num_frames=81, num_tracks=1, track_spread=0.0, interpolation="linear", **size, **ends
        )
        made = {"class": "AnimateDiffMotionPathFromTracks", "tracks": ["tracks", 0], "frames": 8, **size}
    else:
        made = {"class": "AnimateDiffMotionPath", "places": "0: 0.2,0.2  7: 0.8,0.8", "ease": "linear"}
    prompt["path"] = node(made.pop("class"), word="circle", prev_path=["masks", 0], **sizes, **made)
    draw = {"path": ["path", 0], "frames": 8, "width": 64, "height": 64}
    prompt["over"] = node("AnimateDiffDrawMotionPath", images=["decode", 0], **draw)
    prompt["save"]["inputs"]["images"] = ["over", 0]
    assert pictures(server, prompt).shape == (8, 64, 64, 3)
    way = {name: prompt[name] for name in ("mask", "masks", "tracks", "path", "save") if name in prompt}
    way["over"] = node("AnimateDiffDrawMotionPath", **draw)
    assert pictures(server, way).shape == (1, 600, 600, 3)


def test_a_word_that_the_prompt_lacks_is_told(server, prompts, clip):
    prompt = prompts.sampling_prompt(clip)
    prompt["path"]["inputs"]["word"] = "triangle"
    with pytest.raises(Exception, match="'triangle', which does not stand in the prompt 'a red circle'"):
        server.queue(prompt)
