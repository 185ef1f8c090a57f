"""AnimateDiff Combine: what it writes, where, and what it tells the front end."""

from __future__ import annotations

import errno
import itertools
import json
import math
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
    # one WebP is what the front end plays in place; it takes a GIF for a video, and two pictures for stills
    preview = {"filename": "AnimateDiff_preview_00001_.webp", "subfolder": "", "type": "temp"}
    assert ui["images"] == [preview if extension == "gif" else shown]
    assert any(ui["animated"])
    assert ui["gifs"] == [{**shown, "format": f"image/{extension}"}]


@pytest.mark.parametrize(
    ("asked", "kept"), [(1, 1), (7, 7), (8, 8), (24, 24), (30, 30), (50, 50), (60, 50), (1000, 50)]
)
def test_a_gif_keeps_the_frame_rate_over_all_its_frames_and_none_is_too_short_for_browsers(pack, asked, kept):
    durations = pack.submodule("host.media").gif_durations(100, asked)
    assert sum(durations) == pytest.approx(100_000 / kept, abs=10)
    assert min(durations) >= 20  # browsers show shorter ones for 100 ms
    assert max(durations) - min(durations) <= 10
    assert all(duration % 10 == 0 for duration in durations)


def test_a_frame_rate_that_a_gif_cannot_have_is_told(combine, tmp_path, caplog):
    from PIL import Image

    _, path = combine(frame_rate=60)
    assert "cannot be played with 60 frames per second" in caplog.text
    assert "saved with 50, the nearest that works. Choose image/webp" in caplog.text
    with Image.open(path) as image, Image.open(next((tmp_path / "temp").glob("*.webp"))) as preview:
        image.load()
        preview.load()
        assert image.info["duration"] == preview.info["duration"] == 20
    caplog.clear()
    for values in ({"frame_rate": 50}, {"frame_rate": 60, "format": "image/webp"}):
        combine(**values)
    assert not caplog.text


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


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="only Linux is asked for real-time threads")
def test_an_encoder_does_not_make_the_host_a_real_time_process(combine):
    """As SVT-AV1 would, where it may: seen red as root."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    combine(format="video/av1-webm")
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before


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


EACH_KIND = ["image/gif", "image/webp", "video/h264-mp4", "video/webm"]


@pytest.fixture
def folder(tmp_path):
    """Names of the files in the output folder."""
    return lambda: sorted(os.listdir(tmp_path / "output"))


@pytest.fixture
def at_frame(pack, monkeypatch):
    """`at_frame(3, act)`: call act() while the fourth picture is written."""
    media = pack.submodule("host.media")

    def arrange(number: int, act) -> None:
        made = itertools.count(-1)  # the PNG takes the first frame once more
        write = media._bytes
        monkeypatch.setattr(media, "_bytes", lambda frame: act() if next(made) == number else write(frame))

    return arrange


@pytest.mark.parametrize("format", EACH_KIND)
def test_a_file_has_its_name_only_when_it_is_whole(combine, at_frame, folder, format, frames):
    during = []

    def look():
        during.extend(folder())
        return (frames[3] * 255).to(torch.uint8)

    at_frame(3, look)
    combine(format=format)
    assert during
    assert all(name.endswith(".part") for name in during)
    assert len(folder()) == 2
    assert not any(name.endswith(".part") for name in folder())


@pytest.mark.parametrize("format", EACH_KIND)
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "was not saved: the disk is full. Free some space"),
        (PermissionError(errno.EACCES, "Permission denied"), "ComfyUI is not allowed to write there"),
        (RuntimeError("something else"), "something else"),
    ],
)
def test_nothing_is_left_of_a_clip_that_fails(combine, at_frame, folder, format, error, message):
    def fail():
        raise error

    at_frame(3, fail)
    with pytest.raises(RuntimeError, match=message):
        combine(format=format)
    assert folder() == []


@pytest.mark.parametrize("format", EACH_KIND)
def test_stop_ends_a_long_clip_and_leaves_nothing(combine, at_frame, folder, format, frames):
    from comfy import model_management

    def stop():
        model_management.interrupt_current_processing()
        return (frames[3] * 255).to(torch.uint8)

    at_frame(3, stop)
    with pytest.raises(model_management.InterruptProcessingException):
        combine(format=format)
    assert folder() == []
    combine(format=format)  # and the next one runs
    assert len(folder()) == 2


@pytest.mark.parametrize("format", ["image/gif", "image/webp", "video/h264-mp4"])
def test_progress_goes_from_the_first_frame_to_the_last(combine, format, monkeypatch):
    import comfy.utils

    shown = []
    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", lambda bar, value: shown.append((value, bar.total)))
    combine(format=format)
    assert shown[0] == (0, 8)
    assert shown[-1] == (8, 8)
    assert {value for value, _ in shown} == set(range(9))


WRONG_CLIPS = {
    "two channels": ({"images": torch.zeros(2, 8, 8, 2)}, r"3 channels \(RGB\) or 4"),
    "one channel": ({"images": torch.zeros(2, 8, 8, 1)}, r"3 channels \(RGB\) or 4"),
    "latents": ({"images": torch.zeros(2, 4, 8, 8)}, r"3 channels \(RGB\) or 4"),
    **{
        f"{rate} fps": ({"frame_rate": rate}, f"frame_rate .*is {rate:g}|frame_rate is {rate}")
        for rate in (0, -8, math.nan, math.inf, 1e-9, 1e9)
    },
    "negative loops": ({"loop_count": -1}, "loop_count .*is -1, but has to be at least 0"),
    "endless loops": ({"loop_count": 10**9}, "loop_count is 1000000000. It has to be from 0"),
}


@pytest.mark.parametrize("format", ["image/gif", "image/webp", "video/h264-mp4"])
@pytest.mark.parametrize("kind", WRONG_CLIPS)
def test_clips_that_make_no_file_are_refused_in_words(combine, tmp_path, kind, format):
    inputs, message = WRONG_CLIPS[kind]
    with pytest.raises(ValueError, match=message):
        combine(format=format, **inputs)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("shape", [(0, 64, 80, 3), (2, 0, 80, 3), (1, 16, 2, 8, 8), (64, 80, 3)])
def test_no_pictures_are_refused_in_words(combine, shape, tmp_path):
    with pytest.raises(
        ValueError, match=r"The input images of AnimateDiff Combine got .* in place of pictures"
    ) as error:
        combine(images=torch.zeros(shape))
    assert str(shape) in str(error.value)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("prefix", ["../clip", "/elsewhere/clip", "a/../../clip"])
def test_a_prefix_that_leads_out_of_the_folder_is_refused(combine, prefix, tmp_path):
    with pytest.raises(ValueError, match=r"leads out of the folder '.*output'.*without '\.\.'") as error:
        combine(filename_prefix=prefix)
    assert prefix in str(error.value)
    assert not (tmp_path / "output").exists()


def test_a_file_in_the_place_of_a_folder_is_told(pack, combine, tmp_path):
    combine()
    with pytest.raises(pack.submodule("host.writing").NotSaved, match="Choose another filename_prefix"):
        combine(filename_prefix="clip_00001_.gif/clip")
    with pytest.raises(pack.submodule("host.writing").NotSaved, match="Choose another, shorter filename_prefix"):
        combine(filename_prefix="clip" * 100)


def test_a_format_that_is_linked_is_checked_too(pack, combine, monkeypatch):
    node = pack.submodule("nodes.extras").AnimateDiffCombine
    monkeypatch.setattr(node, "validate_inputs", lambda format: True)  # the host has not seen it yet
    with pytest.raises(
        pack.submodule("host.media").ClipError, match=r"'mp4' is no format of this node\. Choose image/gif"
    ):
        combine(format="mp4")
