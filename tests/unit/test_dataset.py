"""Folders of videos: what is found in them, what is known of a file, which frames are a clip."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from animatediff_tests_videos import CONTAINERS, GREYS, frame_numbers, greys, write_video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="session")
def dataset(pack):
    """`dataset("plan")`: a module of the data set."""
    return lambda name: pack.submodule(f"training.dataset.{name}")


@pytest.fixture
def folder(input_folder):
    path = input_folder / "clips"
    path.mkdir()
    return path


@pytest.fixture
def new_settings(dataset):
    def new(**changes):
        defaults = {"width": 32, "height": 32, "buckets": False, "frames": 4, "frame_rate": 0.0, "stride": 1}
        return dataset("plan").ClipSettings(**{**defaults, "most_clips": 1, "split_at_cuts": False, **changes})

    return new


@pytest.fixture
def clips_of(dataset, new_settings):
    """The clips of one video file."""

    def make(path, cuts=(), **changes):
        file = dataset("files").VideoFile(str(path), path.name, 1, 1, "", 1)
        return dataset("plan").clips_of(file, dataset("video").probe(str(path)), cuts, new_settings(**changes))

    return make


@pytest.fixture
def shown(dataset):
    """The frames of a clip: (n, h, w, 3)."""
    return lambda clip: np.stack(
        list(dataset("video").pictures(clip.file.path, clip.times, clip.tolerance, clip.pixel_width, *clip.size))
    )


@pytest.fixture
def unusable(dataset):
    def probe(path) -> str:
        with pytest.raises(dataset("video").UnusableVideo) as told:
            dataset("video").probe(str(path))
        return str(told.value)

    return probe


# -- files --------------------------------------------------------------------------------------------------------------


def touch(folder, *names: str, **captions: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    for name, text in captions.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def test_videos_are_found_at_any_depth_with_captions_and_repeats(dataset, folder):
    touch(folder, "b.mp4", "10_walk/a.webm", "10_walk/deep/c.MKV", "2_jump/d.strange", "picture.png", b=" a dog \n")
    (folder / "10_walk" / "a.txt").write_text("a cat,\nwalking", encoding="utf-8-sig")
    found = dataset("files").scan("clips", "default")
    seen = {video.name: (video.caption, video.repeats) for video in found.videos}
    assert seen == {
        "b.mp4": ("a dog", 1),
        "10_walk/a.webm": ("a cat,\nwalking", 10),
        "10_walk/deep/c.MKV": ("default", 10),
        "2_jump/d.strange": ("default", 2),
    }
    assert found.others == 3  # two captions, a picture
    [(reason, names)] = found.notes.by_reason.items()
    assert reason == "no caption file beside it, so the default caption is used"
    assert sorted(names) == ["10_walk/deep/c.MKV", "2_jump/d.strange"]


CAPTIONS = {
    "empty": (b"  \n", "its caption file is empty, so the empty text is learned with it"),
    "latin": (b"caf\xe9", "its caption file cannot be read (save it as UTF-8), so the empty text is learned with it"),
    "long": (b"x" * 70_000, "its caption file is larger than 64 KB, so the empty text is learned with it"),
    "none": (None, "no caption file beside it, so the empty text is learned with it"),
}


@pytest.mark.parametrize("kind", CAPTIONS)
def test_captions_that_say_nothing_are_told(dataset, folder, kind):
    content, told = CAPTIONS[kind]
    touch(folder, "walk.mp4")
    if content is not None:
        (folder / "walk.txt").write_bytes(content)
    found = dataset("files").scan("clips")
    assert found.notes.lines() == [f"walk.mp4: {told}"]
    assert found.videos[0].caption == ""


def test_a_folder_of_no_repeats_is_left_out_and_told(dataset, folder):
    touch(folder, "0_off/a.mp4")
    found = dataset("files").scan("clips")
    assert not found.videos
    assert found.notes.lines() == ["0_off/a.mp4: left out, as its folder asks for 0 repeats"]


REFUSED = {
    "empty": ("", "There is no folder that is named here in ComfyUI's input folder"),
    "missing": ("nowhere", "There is no folder 'nowhere' in ComfyUI's input folder"),
    "input itself": (".", "is not below ComfyUI's input folder"),
    "outside": ("/etc", "is not below ComfyUI's input folder"),
    "outside and missing": ("/no/such/place", "is not below ComfyUI's input folder"),
    "dots": ("clips/../../output", "is not below ComfyUI's input folder"),
    "another machine": ("//server/share", "never opened"),
    "no path": ("clips\0", "holds a character that no path has"),
    "repeats": ("many", "asks for 9999 repeats, but at most 1000 are possible"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_folders_are_refused(dataset, folder, input_folder, kind):
    value, told = REFUSED[kind]
    touch(input_folder, "many/9999_x/a.mp4")
    with pytest.raises(ValueError, match=told.replace("(", r"\(")):
        dataset("files").scan(value)


def test_more_files_than_can_be_meant_are_refused(dataset, folder, monkeypatch):
    files = dataset("files")
    monkeypatch.setattr(files, "MOST_FILES", 2)
    touch(folder, "a.mp4", "b.mp4", "inner/c.mp4")
    with pytest.raises(files.DatasetError, match=r"more than 2 files below 'clips'. Divide them into folders"):
        files.scan("clips")


def test_what_may_not_be_read_is_told(dataset, folder, monkeypatch):
    touch(folder, "a.mp4", "b.mp4", "inner/c.mp4")

    def denied(function, name: str):
        def call(path, *args, **kwargs):
            if str(path).endswith(name):
                raise PermissionError(13, "Permission denied")
            return function(path, *args, **kwargs)

        return call

    monkeypatch.setattr(os, "scandir", denied(os.scandir, "inner"))
    monkeypatch.setattr(os, "stat", denied(os.stat, "a.mp4"))
    found = dataset("files").scan("clips")
    assert [video.name for video in found.videos] == ["b.mp4"]
    assert "inner: a folder that cannot be read (Permission denied)" in found.notes.lines()
    assert "a.mp4: left out, as it cannot be read (Permission denied)" in found.notes.lines()


def test_links_out_of_the_input_folder_are_not_looked_at(dataset, folder, tmp_path, monkeypatch):
    touch(tmp_path, "secret.mp4", "there/a.mp4", secret="a secret")
    touch(folder, "a.mp4", "inner/b.mp4")
    for name, target in {
        "video.mp4": "secret.mp4",
        "a.txt": "secret.txt",
        "folder": "there",
        "broken.mp4": "missing.mp4",
    }.items():
        (folder / name).symlink_to(tmp_path / target)
    (folder / "again").symlink_to(folder / "inner")
    (folder / "same.mp4").symlink_to(folder / "a.mp4")
    asked = []
    stat = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, *args, **kwargs: asked.append(str(path)) or stat(path, *args, **kwargs)
    )
    found = dataset("files").scan("clips")
    assert [video.name for video in found.videos] == ["a.mp4", "inner/b.mp4", "same.mp4"]
    assert not any("secret" in video.caption for video in found.videos)
    (outside,) = [line for line in found.notes.lines() if "leads out" in line]
    assert outside.startswith("a.txt, broken.mp4, folder, video.mp4: a link that leads out of the input folder")
    assert "again: a link to a folder, which is not followed" in found.notes.lines()
    assert not any(str(tmp_path) in path for path in asked)


def test_the_link_of_the_folder_itself_is_not_followed_out(dataset, input_folder, tmp_path):
    (input_folder / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is not below ComfyUI's input folder"):
        dataset("files").scan("link")


CHANGES = {
    "a new video": lambda folder: touch(folder, "b.mp4"),
    "a new folder": lambda folder: touch(folder, "2_x/b.mp4"),
    "a caption": lambda folder: touch(folder, a="another"),
    "a longer video": lambda folder: (folder / "a.mp4").write_bytes(b"xy"),
    "a video of the same length": lambda folder: os.utime(folder / "a.mp4", (1, 1)),
    "no video": lambda folder: (folder / "a.mp4").unlink(),
    "another name": lambda folder: (folder / "a.mp4").rename(folder / "c.mp4"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_noticed(pack, folder, change):
    node = pack.submodule("nodes.dataset").VideoFolderToClips
    touch(folder, "a.mp4", a="a cat")
    before = node.fingerprint_inputs(folder="clips", default_caption="")
    assert before is not None
    assert node.fingerprint_inputs(folder="clips", default_caption="") == before
    CHANGES[change](folder)
    assert node.fingerprint_inputs(folder="clips", default_caption="") != before


def test_a_folder_that_may_not_be_looked_at_has_no_fingerprint(pack, tmp_path):
    node = pack.submodule("nodes.dataset").VideoFolderToClips
    for path in (str(tmp_path), str(tmp_path / "missing"), "nowhere", None):
        assert node.fingerprint_inputs(folder=path) is None


# -- videos -------------------------------------------------------------------------------------------------------------


WITH_SOUND = [(ending, True) for ending in CONTAINERS if ending not in ("gif", "flv")]  # which hold none of this kind


@pytest.mark.parametrize(("ending", "sound"), [*((ending, False) for ending in CONTAINERS), *WITH_SOUND])
def test_each_so_manieth_frame_of_any_container_is_taken(clips_of, shown, tmp_path, ending, sound):
    path = write_video(tmp_path / f"walk.{ending}", greys(40), sound=sound)
    (clip,) = clips_of(path, stride=4)
    pictures = shown(clip)
    assert pictures.shape == (4, 32, 32, 3)
    assert frame_numbers(pictures) == [16, 20, 24, 28]  # two clips fit: the second lies in the middle of the file


def test_the_speed_of_a_motion_does_not_depend_on_the_file(clips_of, shown, tmp_path):
    """Files of another length or frame rate: the same seconds from frame to frame."""
    for rate, count in ((25, 40), (25, 200), (50, 80), (12.5, 20)):
        path = write_video(tmp_path / f"{rate}-{count}.mkv", greys(count), rate)
        (clip,) = clips_of(path, frame_rate=25.0, stride=4)
        assert np.diff(clip.times) == pytest.approx([0.16] * 3, abs=1e-3)
        assert (np.diff(frame_numbers(shown(clip))) % GREYS).tolist() == [round(4 * rate / 25)] * 3


def test_frames_of_variable_rate_are_taken_where_they_are_shown(clips_of, shown, tmp_path):
    times = [0, 40, 80, 120, 1120, 1160, 1200, 1240, 1280]  # the fourth stands for a second
    path = write_video(tmp_path / "vfr.mkv", greys(9), times=times)
    (clip,) = clips_of(path, frames=8, frame_rate=6.25)
    assert frame_numbers(shown(clip)) == [0, 3, 3, 3, 3, 3, 3, 4]


def test_times_that_a_container_rounds_do_not_make_motion_jump(clips_of, tmp_path):
    """mkv counts milliseconds, which 24000/1001 frames a second are no number of."""
    path = write_video(tmp_path / "film.mkv", greys(200), 24000 / 1001)
    (clip,) = clips_of(path, frames=50, stride=4)
    assert set(np.diff([round(time * 24000 / 1001) for time in clip.times])) == {4}


def test_several_clips_of_a_long_video_lie_evenly_over_it(clips_of, shown, tmp_path):
    path = write_video(tmp_path / "long.mp4", greys(200), 20)  # ten seconds: later clips are sought
    found = [frame_numbers(shown(clip)) for clip in clips_of(path, most_clips=0, stride=5)]
    assert found == [[(start + further) % GREYS for further in (0, 5, 10, 15)] for start in range(0, 200, 20)]
    assert [clip.times[0] for clip in clips_of(path, most_clips=2, stride=5)] == pytest.approx([2.0, 7.0])


def test_a_clip_at_the_end_of_a_video_has_its_last_frame(clips_of, shown, tmp_path):
    path = write_video(tmp_path / "exact.mp4", greys(8))
    assert [frame_numbers(shown(clip)) for clip in clips_of(path, most_clips=0)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_turned_video_is_shown_upright(clips_of, shown, dataset, tmp_path):
    frame = np.zeros((32, 64, 3), np.uint8)
    frame[:, :32, 0], frame[:, 32:, 2] = 255, 255  # red on the left, blue on the right
    path = write_video(tmp_path / "phone.mp4", [frame] * 4, clockwise=True)
    video = dataset("video").probe(str(path))
    assert (video.width, video.height) == (32, 64)
    (clip,) = clips_of(path, width=32, height=64)
    picture = shown(clip)[0]
    assert picture.shape == (64, 32, 3)
    assert picture[8, 16].argmax() == 0  # red above: the left went up
    assert picture[56, 16].argmax() == 2


def test_pixels_that_are_no_squares_are_stretched(clips_of, shown, dataset, tmp_path):
    frame = np.zeros((32, 32, 3), np.uint8)
    frame[:, 8:24] = 255
    path = write_video(tmp_path / "tv.mp4", [frame] * 4, pixel_width=Fraction(2))
    video = dataset("video").probe(str(path))
    assert (video.width, video.height) == (64, 32)
    (clip,) = clips_of(path, width=32, height=32)
    assert shown(clip)[0][:, 2:-2].mean() > 250  # the middle half of what is shown


@pytest.mark.parametrize("width", [32, 34, 40, 64, 86, 128])
def test_a_grey_stays_what_it_is_at_any_size(clips_of, shown, tmp_path, width):
    (clip,) = clips_of(write_video(tmp_path / "grey.mkv", greys(4)), width=width, height=width)
    for number, picture in enumerate(shown(clip)):
        assert picture.mean() == pytest.approx(20 + 3 * number, abs=1.01)


def test_the_middle_is_cut_out(clips_of, shown, tmp_path):
    frame = np.zeros((32, 96, 3), np.uint8)
    frame[:, 32:64] = 255
    (clip,) = clips_of(write_video(tmp_path / "wide.mkv", [frame] * 4), width=16, height=16)
    assert shown(clip).mean() > 250


def test_shots_are_told_apart_by_pyscenedetect(dataset, clips_of, shown, tmp_path):
    pytest.importorskip("scenedetect", reason="PySceneDetect is not installed (requirements-dev.txt)")
    rng = np.random.default_rng(0)
    scenes = [np.kron(rng.integers(0, 255, (3, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(3)]
    frames = [np.roll(scene, shift, 1) for scene in scenes for shift in range(20)]
    path = write_video(tmp_path / "shots.mkv", frames)
    video = dataset("video").probe(str(path))
    cuts = dataset("shots").cuts(str(path), video)
    assert cuts == pytest.approx([0.8, 1.6], abs=1e-3)
    clips = clips_of(path, cuts, frames=16, most_clips=0)
    assert [round(clip.times[0], 2) for clip in clips] == [0.0, 0.8, 1.6]


def test_a_video_that_breaks_while_it_is_looked_for_cuts_is_told(dataset, monkeypatch):
    def breaking(_):
        yield from ()
        raise OSError("the disk is gone")

    shots, video = dataset("shots"), dataset("video")
    monkeypatch.setattr(shots, "frames", breaking)
    with pytest.raises(video.UnusableVideo, match=r"cannot be decoded at 0.0 s \(the disk is gone\)"):
        shots.cuts("any", video.Video(np.arange(4) / 25, 16, 16))


@pytest.mark.parametrize("rate", [25.0, 30.0, 24.0, 7.5])
def test_no_clip_goes_across_a_cut(dataset, new_settings, rate):
    """Also where frames are taken at another rate than the video's."""
    video = dataset("video").Video(np.arange(100) / 25, 64, 48)
    file = dataset("files").VideoFile("a", "a", 1, 1, "", 1)
    cuts = [1.0, 1.24, 3.0]
    clips = dataset("plan").clips_of(file, video, cuts, new_settings(frame_rate=rate, most_clips=0))
    assert len(clips) > 3
    for clip in clips:
        assert len({sum(cut <= time + 1e-9 for cut in cuts) for time in clip.times}) == 1


def test_without_pyscenedetect_it_is_said_what_to_install(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(
        ImportError, match="run `pip install scenedetect-headless` in ComfyUI's Python, or turn split_at_cuts off"
    ):
        dataset("shots").detector()


def cut_off(path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


noise = np.random.default_rng(0)


def noisy(count: int) -> list[np.ndarray]:
    """Frames that no codec makes small, so that half of a file is half of its frames."""
    return [noise.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(count)]


BROKEN = {
    "cut off, index at its end": ("mp4", lambda path: (write_video(path, noisy(40)), cut_off(path, 0.5)), "is broken"),
    "cut off, index at its beginning": (
        "mp4",
        lambda path: (write_video(path, noisy(40), options={"movflags": "faststart"}), cut_off(path, 0.5)),
        "is cut off|is broken",
    ),
    "cut off, without an index": (
        "mkv",
        lambda path: (write_video(path, noisy(100)), cut_off(path, 0.4)),
        "is cut off|is broken",
    ),
    "text": ("mp4", lambda path: path.write_text("no video at all\n" * 50), "is broken, or no video that PyAV reads"),
    "empty": ("mp4", lambda path: path.write_bytes(b""), "is broken, or no video that PyAV reads"),
    "zeros": ("webm", lambda path: path.write_bytes(bytes(5000)), "is broken, or no video that PyAV reads"),
    "narrow": ("mkv", lambda path: write_video(path, greys(4, 640, 32)), "is 640 x 32 pixels, too narrow"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_told_before_anything_is_decoded(unusable, tmp_path, kind):
    ending, make, told = BROKEN[kind]
    path = tmp_path / f"bad.{ending}"
    make(path)
    message = unusable(path)
    assert any(message.startswith(start) for start in told.split("|")), message
    assert str(tmp_path) not in message


# limit: (what it is lowered to, what is told of four frames of 64 x 48 pixels then)
LIMITS = {
    "MOST_PIXELS": (1000, "is 64 x 48 pixels, more than can be read"),
    "MOST_FRAMES": (3, "has more than 3 frames. Cut it into parts"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_videos_beyond_all_measure_are_told(dataset, unusable, tmp_path, monkeypatch, limit):
    lowered, told = LIMITS[limit]
    monkeypatch.setattr(dataset("video"), limit, lowered)
    assert unusable(write_video(tmp_path / "large.mkv", greys(4))) == told


def test_a_video_without_any_frame_is_told(dataset):
    packet = SimpleNamespace(decode=list, size=1, is_discard=False, pts=0, dts=0)
    stream = SimpleNamespace(time_base=Fraction(1, 25))
    with pytest.raises(dataset("video").UnusableVideo, match="has no frame that can be decoded"):
        dataset("video")._probe(SimpleNamespace(demux=lambda _: [packet]), stream)


def test_frames_that_end_too_early_are_told(dataset, tmp_path):
    path = write_video(tmp_path / "short.mkv", greys(4))
    pictures = dataset("video").pictures(str(path), (0.0, 1.5), 0.02, 1.0, 16, 16)
    with pytest.raises(dataset("video").UnusableVideo, match=r"cannot be decoded at 1.5 s \(its frames end there\)"):
        list(pictures)


def test_a_file_of_the_cache_that_is_gone_is_told(dataset, no_cache):
    cache = dataset("cache").Cache()
    with pytest.raises(dataset("cache").GoneAgain, match=r"was removed while it was in use. Queue the workflow again"):
        cache.get(cache.path("latents", "of no clip"))


def test_sound_without_pictures_is_told(unusable, tmp_path):
    import av

    with av.open(str(tmp_path / "song.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    assert unusable(tmp_path / "song.wav") == "has sound or text only, no pictures"


def test_playlists_open_no_other_files(unusable, tmp_path):
    """FFmpeg reads playlists, and what they name, as videos."""
    write_video(tmp_path / "secret.ts", greys(40))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\n{tmp_path / 'secret.ts'}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile '{tmp_path / 'secret.ts'}'\n")
    for name in ("list.m3u8", "list.ffconcat"):
        assert "is broken, or no video" in unusable(tmp_path / name) or "no frame" in unusable(tmp_path / name)


SHORT = {
    "one frame": (1, {}, "is too short: it has 1 of the 4 frames of a clip. Lower frames or stride"),
    "three frames": (3, {}, "is too short: it has 3 of the 4 frames"),
    "twelve frames at stride 4": (12, {"stride": 4}, "is too short: it has 3 of the 4 frames"),
    "short shots": (12, {"cuts": [0.12, 0.24, 0.36]}, "is too short: its longest shot has 3 of the 4 frames"),
}


@pytest.mark.parametrize("kind", SHORT)
def test_short_files_are_told(clips_of, dataset, tmp_path, kind):
    count, changes, told = SHORT[kind]
    path = write_video(tmp_path / "short.mp4", greys(count))
    with pytest.raises(dataset("video").UnusableVideo) as caught:
        clips_of(path, **changes)
    assert str(caught.value).startswith(told)


# -- sizes --------------------------------------------------------------------------------------------------------------


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    width=st.integers(64, 1024),
    height=st.integers(64, 1024),
    video=st.tuples(st.integers(16, 4000), st.integers(16, 4000)),
)
def test_a_bucket_has_about_the_area_and_the_nearest_shape(dataset, width, height, video):
    plan = dataset("plan")
    settings = plan.ClipSettings(width, height, True, 16, 0.0, 1, 1, False)
    chosen = settings.size(dataset("video").Video(np.array([0.0]), *video))
    area = (width // 8 * 8) * (height // 8 * 8)
    distance = {size: abs(np.log(size[0] / size[1]) - np.log(video[0] / video[1])) for size in settings.sizes}
    for w, h in settings.sizes:
        assert w % 8 == 0 and h % 8 == 0
        assert w * h <= area
    assert distance[chosen] <= min(distance.values()) + 1e-5


def test_buckets_of_usual_shapes(dataset):
    settings = dataset("plan").ClipSettings(512, 512, True, 16, 0.0, 1, 1, False)
    video = dataset("video").Video
    sizes = [
        settings.size(video(np.array([0.0]), *size)) for size in ((1920, 1080), (1080, 1920), (640, 480), (400, 400))
    ]
    assert sizes == [(640, 384), (384, 640), (576, 448), (512, 512)]
