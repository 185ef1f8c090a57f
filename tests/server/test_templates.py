"""The example workflows that no other file of tests runs, in a real server on the toy world: small and in few steps."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from animatediff_dev_examples import in_toyworld
from PIL import Image

FRAMES = 8


@pytest.fixture(scope="module")
def server(new_server, host, toyworld_models, toyworld, tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(toyworld_models, models, dirs_exist_ok=True, copy_function=lambda a, b: Path(b).symlink_to(a))
    with new_server(host, models=[models]) as server:
        toyworld("videos").write_clips(server.run / "input" / "clips", 3, seed=0)
        toyworld("videos").write_clips(server.run / "input" / "held_out", 2, seed=1)
        (server.run / "input" / "video.mp4").write_bytes((server.run / "input" / "clips" / "0000.avi").read_bytes())
        yield server


def queued(server, name: str, *, replaced: dict | None = None, **changes) -> list[Path]:
    """The files that the example saves. ``replaced``: inputs of single nodes."""
    prompt = in_toyworld(name, **{"steps": 3, "cfg": 2.0, **changes})
    for node, inputs in (replaced or {}).items():
        prompt[node]["inputs"] |= inputs
    return server.outputs(server.queue(prompt))


def clip(server, name: str, **changes) -> np.ndarray:
    """``(frames, height, width, 3)`` of the example's animation, in 0..1; ``changes`` as those of ``queued``."""
    return animation(queued(server, name, **changes))


def animation(files: list[Path]) -> np.ndarray:
    """That of the files of an example, ``(frames, height, width, 3)`` in 0..1."""
    (file,) = (file for file in files if file.suffix == ".webp")
    with Image.open(file) as animation:
        frames = []
        for i in range(animation.n_frames):
            animation.seek(i)
            frames.append(np.asarray(animation.convert("RGB"), np.float32) / 255)
    made = np.stack(frames)
    assert made.std() > 0.01
    return made


def test_the_prompt_changes_on_the_way(server):
    """Beside a clip of one prompt the first frames differ less than the last ones."""
    entries = '"0": "a red circle", "11": "{}"'
    small = {"batch_size": 12, "context_length": FRAMES, "context_overlap": 4, "lossless": True}
    clips = [
        clip(server, "prompt_travel", prompts=entries.format(last), **small)
        for last in ("a red circle", "a blue square")
    ]
    assert all(len(each) == 12 for each in clips)
    changed = np.abs(clips[0] - clips[1]).mean((1, 2, 3))
    assert changed[-3:].mean() > 1.2 * changed[:3].mean()


def test_a_loop_with_frames_in_between(server):
    assert len(clip(server, "seamless_loop", batch_size=FRAMES)) == 2 * FRAMES


@pytest.mark.long
def test_the_motion_of_a_video_is_cloned(server):
    given = {"length": FRAMES, "batch_size": FRAMES, "lossless": True}
    cloned = clip(server, "motion_clone", **given)
    assert len(cloned) == FRAMES
    assert np.abs(cloned - clip(server, "motion_clone", **given, replaced={"clone": {"strength": 0.0}})).mean() > 0.001


@pytest.mark.long
def test_one_video_is_enough_to_train_and_sample(server):
    small = {"folder": "clips", "batch": 2, "preview_every": 0, "batch_size": FRAMES}
    assert len(clip(server, "one_shot", **small, replaced={"train": {"steps": 2}})) == FRAMES


def test_motion_models_are_merged_and_their_difference_extracted(server):
    given = {"blocks": "", "rank": 4}
    prompt = in_toyworld("merge_motion_models", **given)
    prompt["second"]["inputs"]["model_name"] = "toyworld-no-adapter.safetensors"
    server.queue(prompt)
    for folder, prefix in (("animatediff_models", "merged"), ("animatediff_motion_lora", "extracted")):
        assert list((server.run / "models" / folder).glob(f"{prefix}*.safetensors"))


def test_training_with_checkpoints_and_held_out_clips(server):
    small = {"frames": 4, "frame_rate": 0.0, "stride": 1, "steps": 2, "every": 1, "rank": 4, "warmup_steps": 1}
    prompt = in_toyworld("train_with_checkpoints", **small)
    prompt["clips"]["inputs"]["folder"], prompt["held_out"]["inputs"]["folder"] = "clips", "held_out"
    server.queue(prompt)
    assert list((server.run / "models" / "animatediff_motion_lora").glob("my_motion*.safetensors"))


# Steps and guidance in which a shape is one: what comes of fewer has no place.
PATH = {"steps": 4, "cfg": 3.0, "frames": FRAMES, "batch_size": FRAMES, "word": "circle", "lossless": True}
A_CIRCLE = {"prompt": {"value": "a red circle"}}


@pytest.fixture
def to_the_right(toyworld):
    """How far the shape of a clip goes to the right, as a share of the picture: by a line through all its places."""
    return lambda frames: toyworld("measure").follow(frames).displacement[0] / frames.shape[2]


def drawings(files: list[Path]) -> list[tuple[int, int]]:
    """The sizes of the pictures that show a path."""
    sizes = []
    for file in (file for file in files if file.suffix == ".png"):
        with Image.open(file) as picture:
            sizes.append(picture.size)
    return sizes


def test_a_thing_goes_where_the_path_says(server, to_the_right):
    """The whole way is drawn once, and over each frame of the clip."""
    moved = {}
    for way, places in {"right": "0: 0.3,0.5  7: 0.7,0.5", "left": "0: 0.7,0.5  7: 0.3,0.5"}.items():
        files = queued(server, "draw_a_path", replaced=A_CIRCLE, places=places, **PATH)
        moved[way] = to_the_right(animation(files))
        assert sorted(drawings(files)) == [(64, 64)] * FRAMES + [(600, 600)]
    assert moved["right"] > moved["left"] + 0.2


def test_the_way_of_a_video_is_taken(server, toyworld, to_the_right):
    """What goes to the right there, or to the left, does so in the clip, in another shape and colour."""
    moved = {}
    for way in ("right", "left"):
        path = toyworld("videos").path_towards(way)(np.random.default_rng(5), caption="a green square")
        toyworld("videos").write_video(server.run / "input" / f"{way}.avi", toyworld("scenes").video(path))
        files = queued(server, "path_from_video", replaced=A_CIRCLE, file=f"{way}.avi", **PATH)
        moved[way] = to_the_right(animation(files))
        assert len(drawings(files)) == FRAMES + 1
    assert moved["right"] > moved["left"] + 0.2


def test_the_noise_moves_with_the_camera(server):
    """Not a clip that pans: the toy world's motion model makes little of noise."""
    given = {"batch_size": FRAMES, "frames": FRAMES, "lossless": True, "replaced": A_CIRCLE}
    moved, still = (queued(server, "camera_path", noise=noise, **given) for noise in (1.0, 0.0))
    assert np.abs(animation(moved) - animation(still)).mean() > 0.01
    assert len(drawings(moved)) == FRAMES + 1


def test_prompts_are_kept_apart(server):
    entries = '"0:": "a red circle", "6:": "a blue square"'
    small = {"batch_size": 12, "max_length": 12, "context_length": FRAMES, "context_overlap": 4, "lossless": True}
    apart, together = (clip(server, "prompts_apart", prompts=entries, keep_apart=much, **small) for much in (5.0, 0.0))
    assert len(apart) == 12
    assert np.abs(apart - together).mean() > 0.01
