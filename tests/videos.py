"""Small videos, written by PyAV, whose frames say which they are."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

# Ending -> codec and pixels: what people's folders hold.
CONTAINERS = {
    "mp4": ("libx264", "yuv420p"),
    "mov": ("mpeg4", "yuv420p"),
    "mkv": ("ffv1", "yuv420p"),
    "webm": ("libvpx-vp9", "yuv420p"),
    "avi": ("mjpeg", "yuvj420p"),
    "ts": ("mpeg2video", "yuv420p"),
    "flv": ("flv1", "yuv420p"),
    "gif": ("gif", "gray"),
}
# No codec with a delay in an avi: the muxer would make up for it with a hole in the pictures.
SOUND = {"webm": "libopus", "avi": "pcm_s16le"}
# x' = -y, y' = x: a quarter turn clockwise, as of a telephone held upright (ISO 14496-12, 8.3.2)
CLOCKWISE = (0, 1 << 16, 0, -1 << 16 & 0xFFFFFFFF, 0, 0, 0, 0, 1 << 30)
MATRIX_BEHIND_TKHD = 44
DARKEST, APART, GREYS = 20, 3, 75  # greys that a codec may change a little


def greys(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Frames of one grey each, by which ``frame_numbers`` knows them."""
    return [np.full((height, width, 3), DARKEST + APART * (number % GREYS), np.uint8) for number in range(count)]


def frame_numbers(pictures) -> list[int]:
    """Which of ``greys`` pictures ``(n, h, w, 3)`` in 0..255 are, modulo GREYS."""
    return [round((float(np.asarray(one, dtype=np.float64).mean()) - DARKEST) / APART) for one in pictures]


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    rate: float = 25,
    *,
    times: Sequence[float] | None = None,
    sound: bool = False,
    pixel_width: Fraction | None = None,
    clockwise: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """``frames (height, width, 3)`` uint8 in the container that the path's ending names, with the codec of CONTAINERS.

    ``times``: milliseconds of each frame, where they are not evenly spaced. ``clockwise``: shown a quarter turn clockwise (mp4, mov).
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    codec, pixels = CONTAINERS[path.suffix[1:]]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if codec in ("mjpeg", "mpeg4", "mpeg2video", "flv1"):
            stream.bit_rate = 4_000_000
        if pixel_width:
            stream.codec_context.sample_aspect_ratio = pixel_width
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound:
            audio = container.add_stream(SOUND.get(path.suffix[1:], "aac"), rate=48000)
            audio.layout = "mono"
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times is not None:
                picture.pts, picture.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        if sound:
            samples = np.zeros((1, 1024), np.float32)
            for number in range(int(48000 * len(frames) / rate) // 1024):
                part = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                part.sample_rate, part.pts = 48000, number * 1024
                container.mux(audio.encode(part))
            container.mux(audio.encode())
    if clockwise:
        content = bytearray(path.read_bytes())
        start = content.index(b"tkhd") + MATRIX_BEHIND_TKHD
        content[start : start + 36] = b"".join(number.to_bytes(4, "big") for number in CLOCKWISE)
        path.write_bytes(content)
    return path


@pytest.fixture
def input_folder(host_path):
    """The host's input folder; what a test puts there is removed."""
    import shutil

    import folder_paths

    folder = Path(folder_paths.get_input_directory())
    folder.mkdir(parents=True, exist_ok=True)
    before = {path.name for path in folder.iterdir()}
    yield folder
    for path in folder.iterdir():
        if path.name not in before:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.fixture
def no_cache(host_path, tmp_path, monkeypatch):
    """The folder of the host's user files is an empty one."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    return tmp_path / "user"
