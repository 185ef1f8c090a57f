"""Pictures and clips as files: where the host puts them, with the workflow inside as the host's own nodes store it."""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import comfy.cli_args
import comfy.model_management
import comfy.utils
import folder_paths
import torch
from av.codec.codec import UnknownCodecError
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .told import Told
from .writing import new_name, whole_file

PICTURES = {"image/gif": "gif", "image/webp": "webp"}
SLOWEST, FASTEST = 0.01, 1000  # frames per second
FASTEST_GIF = 50  # a GIF counts in hundredths of a second, and browsers take one of them for ten
MOST_LOOPS = 65535  # that a GIF or WebP can count
EXIF_MODEL = 0x0110  # the host stores the prompt here, and the rest in the tags before it


@dataclass(frozen=True)
class VideoFormat:
    extension: str
    codec: str
    pixels: str = "yuv420p"
    options: Mapping[str, str] | None = None


H264 = VideoFormat("mp4", "libx264", options={"crf": "19"})
H265 = VideoFormat("mp4", "libx265", options={"crf": "22", "x265-params": "log-level=error"})
# On smaller pictures than this x265 writes where it must not (seen with PyAV 18), and the host dies of it.
H265_SMALLEST = 64
# Names from workflow files. Encoders of NVIDIA cards are not everywhere; these make the same kind of file.
VIDEOS = {
    "video/h264-mp4": H264,
    "video/nvenc_h264-mp4": H264,
    "video/h265-mp4": H265,
    "video/nvenc_hevc-mp4": H265,
    "video/webm": VideoFormat("webm", "libvpx-vp9", options={"crf": "20", "b": "0"}),
    "video/av1-webm": VideoFormat("webm", "libsvtav1", "yuv420p10le", {"crf": "23", "preset": "6"}),
}


def is_format(name: str) -> bool:
    return name in PICTURES or name.startswith("video/")


def no_format(name: str) -> str:
    """The message for a ``name`` that is none."""
    return f"'{name}' is no format of this node. Choose {', '.join((*PICTURES, *VIDEOS))}."


@dataclass(frozen=True)
class SavedFile:
    """A file below the host's output or temp folder, named as the front end asks for it."""

    filename: str
    subfolder: str
    type: str  # "output" or "temp"
    path: str

    @property
    def result(self) -> dict[str, str]:
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.type}


class ClipError(Told, ValueError):
    """A clip that cannot be made a file, or not in this way; the message says what to change."""


def there_and_back(frames: torch.Tensor) -> torch.Tensor:
    """``(n, …)`` -> ``(2n - 2, …)``: played again and again, no frame is shown twice in a row."""
    return torch.cat([frames, frames[1:-1].flip(0)])


def save_clip(
    frames: torch.Tensor,
    prefix: str,
    format: str,
    frame_rate: float,
    loops: int = 0,
    keep: bool = True,
    metadata: Mapping[str, object] | None = None,
) -> SavedFile:
    """Write a clip ``(n, height, width, 3 or 4)`` in 0..1, and its first frame as PNG beside it; return the clip's file.

    ``loops`` is how often it is repeated: 0 means for ever in pictures, and not at all in videos. ``keep`` False writes
    to the host's temp folder, which it empties when it starts. ``metadata`` (the prompt, the workflow) goes into both
    files. A video format that is not known is written as H.264. Either both files are there in the end, or none.
    Raises ClipError, and NotSaved of ``host/writing.py``; stops when the user stops the prompt.
    """
    if not is_format(format):
        raise ClipError(no_format(format))
    _check(frames, frame_rate, loops)
    height, width = frames.shape[1:3]
    video = None if format in PICTURES else _video_format(format, height, width)
    folder = folder_paths.get_output_directory() if keep else folder_paths.get_temp_directory()
    folder, name, subfolder = new_name(prefix, folder, width, height)
    metadata = {} if comfy.cli_args.args.disable_metadata else dict(metadata or {})

    def file(extension: str) -> SavedFile:
        filename = f"{name}.{extension}"
        return SavedFile(filename, subfolder, "output" if keep else "temp", os.path.join(folder, filename))

    first, clip = file("png"), file(video.extension if video else PICTURES[format])
    with whole_file(first.path) as first_path, whole_file(clip.path) as clip_path:
        _picture(frames[0]).save(first_path, "PNG", pnginfo=_png_info(metadata), compress_level=4)
        if video:
            _save_video(frames, clip_path, video, frame_rate, loops, metadata)
        else:
            _save_picture(frames, clip_path, PICTURES[format], frame_rate, loops, metadata)
    return clip


def save_preview(frames: torch.Tensor, frame_rate: float, loops: int = 0) -> SavedFile:
    """Write a clip as WebP into the host's temp folder: for a front end that does not play what was saved."""
    height, width = frames.shape[1:3]
    folder, name, subfolder = new_name("AnimateDiff_preview", folder_paths.get_temp_directory(), width, height)
    preview = SavedFile(f"{name}.webp", subfolder, "temp", os.path.join(folder, f"{name}.webp"))
    with whole_file(preview.path) as path:
        _save_picture(frames, path, "webp", frame_rate, loops, {})
    return preview


def _check(frames: torch.Tensor, frame_rate: float, loops: int) -> None:
    if frames.shape[-1] not in (3, 4):
        raise ClipError(
            f"The pictures have the shape {tuple(frames.shape)}: (number, height, width, channels). A file takes 3 channels "
            "(RGB) or 4 (RGBA). Connect pictures such as those of VAE Decode."
        )
    if not (math.isfinite(frame_rate) and SLOWEST <= frame_rate <= FASTEST):
        raise ClipError(
            f"frame_rate is {frame_rate}. It has to be from {SLOWEST} to {FASTEST} frames per second; 8 is usual."
        )
    if not 0 <= loops <= MOST_LOOPS:
        raise ClipError(f"loop_count is {loops}. It has to be from 0 to {MOST_LOOPS}; 0 repeats GIF and WebP for ever.")


def _progress(total: int) -> Callable[[int], None]:
    """A function to call with the number of frames that are done: shows them, and heeds Stop."""
    bar = comfy.utils.ProgressBar(total)

    def done(frames: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(frames)

    return done


def _bytes(frame: torch.Tensor) -> torch.Tensor:
    return (frame * 255).clamp(0, 255).to("cpu", torch.uint8)


def _picture(frame: torch.Tensor) -> Image.Image:
    return Image.fromarray(_bytes(frame).numpy())


class Film(Image.Image):
    """A clip as Pillow knows pictures of many frames: the one that is sought is there, and only that one."""

    def __init__(self, frames: torch.Tensor):
        super().__init__()
        self.frames, self.n_frames = frames, len(frames)
        self.done = _progress(len(frames))
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame >= self.n_frames:
            raise EOFError  # which ends it, says Pillow
        self.frame = frame
        self.done(frame)
        self.__dict__.update(_picture(self.frames[frame]).__dict__)

    def tell(self) -> int:
        return self.frame


def _png_info(metadata: dict) -> PngInfo:
    info = PngInfo()
    for key, value in metadata.items():
        info.add_text(key, json.dumps(value))
    return info


def _save_picture(
    frames: torch.Tensor, path: str, extension: str, frame_rate: float, loops: int, metadata: dict
) -> None:
    film = Film(frames)
    if extension == "webp":
        exif = film.getexif()
        for tag, (key, value) in zip(range(EXIF_MODEL, 0, -1), metadata.items(), strict=False):
            exif[tag] = f"{key}:{json.dumps(value)}"
        stored = {"exif": exif}
    else:
        stored = {"comment": json.dumps(metadata).encode()} if metadata else {}
    durations = gif_durations(len(frames), frame_rate) if extension == "gif" else round(1000 / frame_rate)
    film.save(path, extension.upper(), save_all=True, duration=durations, loop=loops, **stored)
    film.done(len(frames))


def gif_durations(frames: int, frame_rate: float) -> list[int]:
    """How long each frame of a GIF is shown, in milliseconds: whole hundredths of a second, which together keep the rate."""
    rate = min(frame_rate, FASTEST_GIF)
    ends = [round(100 * number / rate) for number in range(frames + 1)]
    return [10 * (end - begin) for begin, end in pairwise(ends)]


def too_fast(format: str, frame_rate: float) -> str:
    """What to tell of a frame rate that a clip cannot be played with; "" if it can."""
    if PICTURES.get(format) != "gif" or frame_rate <= FASTEST_GIF:
        return ""
    return (
        f"A GIF cannot be played with {frame_rate:g} frames per second: browsers show frames shorter than 0.02 s for 0.1 s. It "
        f"is saved with {FASTEST_GIF}, the nearest that works. Choose image/webp, which has any rate, or a video format."
    )


def _video_format(name: str, height: int, width: int) -> VideoFormat:
    if min(height, width) < 2:
        raise ClipError("A video needs pictures of at least 2x2 pixels. Choose the format image/gif or image/webp.")
    if name not in VIDEOS:
        known = ", ".join(VIDEOS)
        logging.warning("[AnimateDiff] The format %s is not known here; wrote H.264 instead. Known: %s.", name, known)
    video = VIDEOS.get(name, H264)
    if video is H265 and min(height, width) < H265_SMALLEST:
        logging.warning("[AnimateDiff] Pictures of %dx%d are too small for H.265; wrote H.264 instead.", width, height)
        return H264
    return video


@contextmanager
def _same_priority() -> Iterator[None]:
    """Inside the ``with``, an encoder may change how the operating system schedules this thread, and not behind it.

    SVT-AV1 (4.1.0, in PyAV 18.1.0) makes it a real-time thread wherever it may, as for root, and leaves it so: it and all
    that it starts would then go before everything else on the machine.
    """
    if not hasattr(os, "sched_getscheduler"):  # not Linux
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if (os.sched_getscheduler(0), os.sched_getparam(0)) != before:
            os.sched_setscheduler(0, *before)


def _save_video(
    frames: torch.Tensor, path: str, video: VideoFormat, frame_rate: float, loops: int, metadata: dict
) -> None:
    # video codecs with halved colour resolution need even sides
    height, width = (side - side % 2 for side in frames.shape[1:3])
    done = _progress(len(frames) * (loops + 1))
    options = {"movflags": "use_metadata_tags"} if video.extension == "mp4" else {}
    with av.open(path, mode="w", format=video.extension, options=options) as container:
        for key, value in metadata.items():
            container.metadata[key] = json.dumps(value)
        try:
            stream: Any = container.add_stream(video.codec, rate=Fraction(frame_rate).limit_denominator(1000))
        except UnknownCodecError as error:
            raise ClipError(
                f"The installed PyAV lacks the encoder {video.codec}, which this format needs. "
                "Choose another format, or install the package av from PyPI again."
            ) from error
        stream.width, stream.height, stream.pix_fmt = width, height, video.pixels
        stream.options = dict(video.options or {})
        for turn in range(loops + 1):
            for number, frame in enumerate(frames):
                done(turn * len(frames) + number)
                picture = av.VideoFrame.from_ndarray(_bytes(frame[:height, :width, :3]).numpy(), format="rgb24")
                with _same_priority():
                    packets = stream.encode(picture)
                container.mux(packets)
        container.mux(stream.encode())
        done(len(frames) * (loops + 1))
