"""AnimateDiff Combine: what it writes, where, and what it tells the front end."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
import torch

PROMPT = {"1": {"class_type": "KSampler", "inputs": {"seed": 5}}}
WORKFLOW = {"nodes": [{"id": 1, "type": "KSampler"}]}


@pytest.fixture
def frames():
    """Eight grey frames, each lighter than the one before."""
    return torch.linspace(0, 1, 8)[:, None, None, None].expand(8, 64, 80, 3)


@pytest.fixture
def combine(pack, frames, tmp_path, monkeypatch):
    """Run the node: `combine(format="video/webm")` returns its ui and the path of its file."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    node = pack.submodule("nodes.extras").AnimateDiffCombine

    def run(images=frames, **values):
        values = {"frame_rate": 8, "loop_count": 0, "filename_prefix": "clip", "format": "image/gif", **values}
        values = {"pingpong": False, "save_image": True, **values}
        monkeypatch.setattr(
            node, "hidden", SimpleNamespace(prompt=PROMPT, extra_pnginfo={"workflow": WORKFLOW}), raising=False
        )
        assert node.validate_inputs(format=values["format"]) is True
        result = node.execute(images=images, **values)
        return result.ui, result.result[0]

    return run


def greys(path: str) -> list[float]:
    """The brightness of each frame, 0 to 1."""
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        pixels = [frame.convert("L").getpixel((24, 16)) / 255 for frame in ImageSequence.Iterator(image)]
    return pixels


def video(path: str) -> tuple[list[float], float, str, dict]:
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        pixels = [frame.to_ndarray(format="gray")[16, 24] / 255 for frame in container.decode(stream)]
        return pixels, float(stream.average_rate), stream.codec_context.codec.canonical_name, dict(container.metadata)


@pytest.mark.parametrize("extension", ["gif", "webp"])
def test_pictures_play_all_frames_at_the_frame_rate(combine, frames, extension):
    from PIL import Image

    ui, path = combine(format=f"image/{extension}", frame_rate=10, loop_count=3)
    assert greys(path) == pytest.approx(frames[:, 0, 0, 0].tolist(), abs=0.02)
    with Image.open(path) as image:
        assert image.n_frames == 8
        image.load()
        assert image.info["duration"] == 100
        assert image.info["loop"] == 3
    assert os.path.basename(path) == f"clip_00001_.{extension}"
    shown = {"filename": f"clip_00001_.{extension}", "subfolder": "", "type": "output"}
    # with a PNG or WebP beside it the front end plays a GIF in place; else it would take it for a video
    assert ui["images"] == [shown, {**shown, "filename": "clip_00001_.png"}]
    assert any(ui["animated"])
    assert ui["gifs"] == [{**shown, "format": f"image/{extension}"}]


def test_loops_for_ever_unless_told_otherwise(combine):
    from PIL import Image

    for extension in ("gif", "webp"):
        with Image.open(combine(format=f"image/{extension}")[1]) as image:
            assert image.info["loop"] == 0


def test_there_and_back_repeats_neither_end(combine, frames):
    values = frames[:, 0, 0, 0].tolist()
    _, path = combine(pingpong=True, format="image/webp")
    assert greys(path) == pytest.approx(values + values[-2:0:-1], abs=0.02)
    assert len(greys(combine(images=frames[:2], pingpong=True)[1])) == 2


@pytest.mark.parametrize(
    ("format", "extension", "codec"),
    [
        ("video/h264-mp4", "mp4", "h264"),
        ("video/h265-mp4", "mp4", "hevc"),
        ("video/webm", "webm", "vp9"),
        ("video/av1-webm", "webm", "av1"),
        ("video/nvenc_h264-mp4", "mp4", "h264"),
        ("video/something-new", "mp4", "h264"),
    ],
)
def test_formats_of_older_workflow_files_are_videos(combine, frames, format, extension, codec):
    ui, path = combine(format=format, frame_rate=12)
    pixels, rate, found, metadata = video(path)
    assert pixels == pytest.approx(frames[:, 0, 0, 0].tolist(), abs=0.08)
    assert rate == 12
    assert found == codec
    stored = {key.lower(): value for key, value in metadata.items()}  # Matroska writes tags in capitals
    assert json.loads(stored["prompt"]) == PROMPT
    assert json.loads(stored["workflow"]) == WORKFLOW
    # a PNG among them, and the front end would show that instead of the video
    assert ui["images"] == [{"filename": f"clip_00001_.{extension}", "subfolder": "", "type": "output"}]
    assert ui["gifs"][0]["format"] == format


def test_videos_repeat_as_often_as_asked_and_take_odd_sizes(combine):
    _, path = combine(images=torch.rand(3, 33, 49, 3), format="video/h264-mp4", loop_count=2)
    assert len(video(path)[0]) == 9


def test_pictures_too_small_for_h265_do_not_end_the_host(combine, frames):
    """Its encoder would corrupt memory."""
    _, path = combine(images=frames[:, :32, :48], format="video/h265-mp4")
    assert video(path)[2] == "h264"


def test_the_first_frame_and_pictures_carry_the_workflow(combine):
    from PIL import Image

    _, path = combine(format="image/webp", filename_prefix="folder/clip")
    with Image.open(path) as image:
        exif = image.getexif()
    assert exif[0x0110] == f"prompt:{json.dumps(PROMPT)}"
    assert exif[0x010F] == f"workflow:{json.dumps(WORKFLOW)}"
    with Image.open(path.replace(".webp", ".png")) as image:
        assert json.loads(image.text["prompt"]) == PROMPT
        assert json.loads(image.text["workflow"]) == WORKFLOW
        assert image.size == (80, 64)
    with Image.open(combine(format="image/gif")[1]) as image:
        assert json.loads(image.info["comment"]) == {"prompt": PROMPT, "workflow": WORKFLOW}


def test_files_are_kept_only_if_asked_for(combine, tmp_path):
    ui, path = combine(save_image=False, filename_prefix="folder/clip")
    assert ui["gifs"][0]["type"] == "temp"
    assert ui["gifs"][0]["subfolder"] == "folder"
    assert path == str(tmp_path / "temp" / "folder" / "clip_00001_.gif")
    assert not any(files for _, _, files in os.walk(tmp_path / "output"))


def test_runs_do_not_overwrite_each_other(combine):
    assert combine()[1] != combine()[1]


def test_other_formats_are_refused_before_anything_runs(pack):
    node = pack.submodule("nodes.extras").AnimateDiffCombine
    assert "Choose image/gif, image/webp, video/h264-mp4" in node.validate_inputs(format="lerp (normal)")
