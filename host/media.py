"""Pictures and clips as files: where the host puts them, with the workflow inside as the host's own nodes store it."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
import folder_paths
import torch
from comfy.cli_args import args
from PIL import Image
from PIL.PngImagePlugin import PngInfo

PICTURES = {"image/gif": "gif", "image/webp": "webp"}
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
) -> tuple[SavedFile, SavedFile]:
    """Write a clip ``(n, height, width, 3 or 4)`` in 0..1, and its first frame as PNG beside it; return both files.

    ``loops`` is how often it is repeated: 0 means for ever in pictures, and not at all in videos. ``keep`` False writes
    to the host's temp folder, which it empties when it starts. ``metadata`` (the prompt, the workflow) goes into both
    files. A video format that is not known is written as H.264.
    """
    folder = folder_paths.get_output_directory() if keep else folder_paths.get_temp_directory()
    height, width = frames.shape[1:3]
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, folder, width, height)
    metadata = {} if args.disable_metadata else dict(metadata or {})

    def file(extension: str) -> SavedFile:
        filename = f"{name}_{counter:05}_.{extension}"
        return SavedFile(filename, subfolder, "output" if keep else "temp", os.path.join(folder, filename))

    first = file("png")
    next(_pictures(frames)).save(first.path, pnginfo=_png_info(metadata), compress_level=4)
    if format in PICTURES:
        clip = file(PICTURES[format])
        _save_picture(frames, clip.path, frame_rate, loops, metadata)
    else:
        clip = _save_video(frames, file, format, frame_rate, loops, metadata)
    return clip, first


def _bytes(frame: torch.Tensor) -> torch.Tensor:
    return (frame * 255).clamp(0, 255).to("cpu", torch.uint8)


def _pictures(frames: torch.Tensor) -> Iterator[Image.Image]:
    return (Image.fromarray(_bytes(frame).numpy()) for frame in frames)


def _png_info(metadata: dict) -> PngInfo:
    info = PngInfo()
    for key, value in metadata.items():
        info.add_text(key, json.dumps(value))
    return info


def _save_picture(frames: torch.Tensor, path: str, frame_rate: float, loops: int, metadata: dict) -> None:
    first, *others = _pictures(frames)
    if path.endswith(".webp"):
        exif = first.getexif()
        for tag, (key, value) in zip(range(EXIF_MODEL, 0, -1), metadata.items(), strict=False):
            exif[tag] = f"{key}:{json.dumps(value)}"
        stored = {"exif": exif}
    else:
        stored = {"comment": json.dumps(metadata).encode()} if metadata else {}
    duration = round(1000 / frame_rate)  # milliseconds
    first.save(path, save_all=True, append_images=others, duration=duration, loop=loops, **stored)


def _save_video(frames: torch.Tensor, file, format: str, frame_rate: float, loops: int, metadata: dict) -> SavedFile:
    # video codecs with halved colour resolution need even sides
    height, width = (side - side % 2 for side in frames.shape[1:3])
    if not height or not width:
        raise ValueError("A video needs pictures of at least 2x2 pixels. Choose the format image/gif or image/webp.")
    if format not in VIDEOS:
        known = ", ".join(VIDEOS)
        logging.warning("[AnimateDiff] The format %s is not known here; wrote H.264 instead. Known: %s.", format, known)
    video = VIDEOS.get(format, H264)
    if video is H265 and min(height, width) < H265_SMALLEST:
        logging.warning("[AnimateDiff] Pictures of %dx%d are too small for H.265; wrote H.264 instead.", width, height)
        video = H264
    clip = file(video.extension)
    options = {"movflags": "use_metadata_tags"} if video.extension == "mp4" else {}
    with av.open(clip.path, mode="w", options=options) as container:
        for key, value in metadata.items():
            container.metadata[key] = json.dumps(value)
        try:
            stream = container.add_stream(video.codec, rate=Fraction(frame_rate).limit_denominator(1000))
        except av.codec.codec.UnknownCodecError as error:
            raise ValueError(
                f"The installed PyAV cannot write {format}: it lacks the encoder {video.codec}. "
                "Choose another format, or install the package av from PyPI again."
            ) from error
        stream.width, stream.height, stream.pix_fmt = width, height, video.pixels
        stream.options = dict(video.options or {})
        for _ in range(loops + 1):
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(_bytes(frame[:height, :width, :3]).numpy(), format="rgb24")
                container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return clip
