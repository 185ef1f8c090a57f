"""A folder of videos made ready for training: first looked at, then encoded, clip by clip.

Whatever takes time is kept on disk (``cache.py``) as soon as it is there, so a run that was stopped goes on where it was, and
the next one starts at once. In memory there are the pictures of a few frames and, paged in from disk, latents.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import av
import numpy as np
import torch

from ...host import vae as host_vae
from ...host.identity import identity, text_encoder_identity
from ...host.progress import in_steps
from ...scheduling.prompts import encode as encode_text
from . import shots
from .cache import Cache
from .files import DatasetError, Folder, Notes, VideoFile
from .plan import MOST_CLIPS, Clip, ClipSettings, clips_of
from .video import UnusableVideo, Video, pictures, probe

LEAST_APART = 0.99  # frames of a video from one frame of a clip to the next, or some are there twice
THUMBNAILS, THUMBNAIL_SIDE = 4, 96  # frames of a clip on the contact sheet; pixels of their longer side
LATENTS, PREVIEW = "latents", "thumbnails"


@dataclass(frozen=True)
class Survey:
    """What will be made of a folder: ``clips``, and in ``notes`` what has to be told about its files."""

    folder: Folder
    settings: ClipSettings
    clips: tuple[Clip, ...]
    notes: Notes


@dataclass(frozen=True)
class Prepared:
    """A clip, and what is kept of it: latents ``(frames, 4, height / 8, width / 8)``, thumbnails ``(4, h, w, 3)`` uint8."""

    clip: Clip
    latents: torch.Tensor
    thumbnails: torch.Tensor


@dataclass(frozen=True)
class Dataset:
    """All that is ready. ``kept``: how many of its clips were on disk already."""

    clips: list[Prepared]
    kept: int

    def repeated(self) -> list[Prepared]:
        """Each clip as often as its folder asks for. The same object every time, so this takes no memory."""
        return [clip for clip in self.clips for _ in range(clip.clip.file.repeats)]


def survey(folder: Folder, settings: ClipSettings, cache: Cache) -> Survey:
    """Look at all videos of ``folder``, and plan their clips. Shows progress, heeds Stop.

    Files that are of no use are in the notes. Raises DatasetError if no clip is left, and NoSceneDetect.
    """
    if settings.split_at_cuts:
        shots.detector()  # tells that it is missing before anything is read
    notes, clips = Notes(dict(folder.notes.by_reason)), []
    for file in in_steps(folder.videos):
        try:
            video = _known(file, cache)
            found = clips_of(file, video, _cuts(file, video, cache) if settings.split_at_cuts else (), settings)
        except UnusableVideo as error:
            notes.add(file.name, f"skipped, as it {error}")
            continue
        if settings.step(video) < LEAST_APART * video.interval:
            notes.add(
                file.name, f"it has {video.rate:.3g} frames a second, fewer than are taken, so some frames stand twice"
            )
        if video.width < found[0].size[0] or video.height < found[0].size[1]:
            notes.add(file.name, f"it is {video.width} x {video.height} pixels, so it is enlarged")
        clips += found
        if len(clips) > MOST_CLIPS:
            raise DatasetError(
                f"The folder gives more than {MOST_CLIPS} clips. Lower clips_per_video, or raise frames."
            )
    if not clips:
        told = " ".join(f"{line}." for line in notes.lines()) or "There is no file in it that could be one."
        raise DatasetError(f"No clip can be made of the videos in this folder. {told}")
    return Survey(folder, settings, tuple(clips), notes)


def _known(file: VideoFile, cache: Cache) -> Video:
    path = cache.path("video", av.__version__, *_key(file))
    if (kept := cache.load(path)) is None:
        try:
            video = probe(file.path)
        except UnusableVideo as error:
            cache.save(path, {}, str(error))
            raise
        cache.save(path, {"times": torch.from_numpy(video.times)}, (video.width, video.height, video.pixel_width))
        return video
    tensors, note = kept
    if isinstance(note, str):
        raise UnusableVideo(note)
    return Video(tensors["times"].numpy(), *note)


def _cuts(file: VideoFile, video: Video, cache: Cache) -> np.ndarray:
    path = cache.path("cuts", av.__version__, *_key(file))
    if cache.load(path) is None:
        cache.save(path, {"times": torch.from_numpy(shots.cuts(file.path, video))})
    return cache.get(path)[0]["times"].numpy()


def _key(file: VideoFile) -> tuple:
    return file.path, file.size, file.modified


def prepare(found: Survey, vae, cache: Cache) -> Dataset:
    """Encode what is not kept yet. Shows progress, heeds Stop. ``vae``: the host's.

    A clip that cannot be decoded is told in the notes of ``found``. Raises NotSaved, and DatasetError if none is left.
    """
    encoder = identity(vae)
    paths = {clip: cache.path(LATENTS, *_key(clip.file), clip.times, clip.size, encoder) for clip in found.clips}
    missing = [clip for clip, path in paths.items() if cache.load(path) is None]
    # Loaded when all are there: small tensors that stay, between large ones that go, would leave holes in the memory
    # that nothing else fits into.
    for clip in in_steps(missing):
        try:
            cache.save(paths[clip], _encoded(clip, vae))
        except UnusableVideo as error:
            found.notes.add(clip.file.name, f"a clip of it was left out, as it {error}")
            del paths[clip]
    if not paths:
        raise DatasetError(
            "None of the clips could be decoded. " + " ".join(f"{line}." for line in found.notes.lines())
        )
    kept = {clip: cache.get(path)[0] for clip, path in paths.items()}
    clips = [Prepared(clip, tensors[LATENTS], tensors[PREVIEW]) for clip, tensors in kept.items()]
    return Dataset(clips, kept=len(found.clips) - len(missing))


def _encoded(clip: Clip, vae) -> dict[str, torch.Tensor]:
    """Latents and thumbnails, of a few frames at a time."""
    shown = pictures(clip.file.path, clip.times, clip.tolerance, clip.pixel_width, *clip.size)
    previewed = {round(number * (len(clip.times) - 1) / (THUMBNAILS - 1)) for number in range(THUMBNAILS)}
    latents, thumbnails, done = [], [], 0
    for part in host_vae.parts(len(clip.times)):
        some = list(islice(shown, part.stop - part.start))
        thumbnails += [_thumbnail(one) for number, one in enumerate(some, done) if number in previewed]
        done += len(some)
        latents.append(host_vae.encode(vae, torch.from_numpy(np.stack(some)).float() / 255).cpu().float())
    return {LATENTS: torch.cat(latents), PREVIEW: torch.from_numpy(np.stack(thumbnails))}


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    """Each n-th pixel: enough for a preview, and quick."""
    every = max(1, -(-max(picture.shape[:2]) // THUMBNAIL_SIDE))
    return picture[::every, ::every]


def conditionings(texts: Iterable[str], clip, cache: Cache) -> dict[str, list]:
    """A CONDITIONING for each text, encoded where it is not kept yet. Shows progress, heeds Stop. ``clip``: the host's."""
    encoder = text_encoder_identity(clip)
    paths = {text: cache.path("text", text, encoder) for text in texts}
    hooked = {}
    for text in in_steps([text for text, path in paths.items() if cache.load(path) is None]):
        entries = encode_text(clip, text)
        if len(entries) > 1 or entries[0][1]:  # LoRA hooks, which are no tensors
            hooked[text] = [[one.cond, {**options, "pooled_output": one.pooled}] for one, options in entries]
        else:
            [(one, _)] = entries
            pooled = {} if one.pooled is None else {"pooled": one.pooled.cpu()}
            cache.save(paths[text], {"cond": one.cond.cpu(), **pooled})
    return {text: hooked.get(text) or _conditioning(cache.get(path)[0]) for text, path in paths.items()}


def _conditioning(kept: dict[str, torch.Tensor]) -> list:
    return [[kept["cond"], {"pooled_output": kept.get("pooled")}]]


def summary(found: Survey) -> str:
    """What is in the folder and what becomes of it."""
    settings, clips = found.settings, found.clips
    files = {clip.file.name for clip in clips}
    seen = sum(clip.file.repeats for clip in clips)
    repeats = f", {seen} with repeats" if seen > len(clips) else ""
    rate = (
        f"{settings.frame_rate / settings.stride:.3g} a second"
        if settings.frame_rate
        else f"{settings.stride} of the video from one to the next"
    )
    sizes = Counter(clip.size for clip in clips).most_common()
    lines = [
        f"{len(clips)} clips{repeats}, of {len(files)} of {len(found.folder.videos)} videos",
        f"Frames: {settings.frames}, {rate}",
        "Sizes: " + ", ".join(f"{width} x {height} ({count} clips)" for (width, height), count in sizes),
    ]
    if found.folder.others:
        lines.append(f"Files that are no videos: {found.folder.others}")
    return "\n".join([*lines, *found.notes.lines()])


def tell(found: Survey) -> None:
    """The summary in the log, before anything is encoded."""
    for line in summary(found).splitlines():
        logging.info("[AnimateDiff] %s", line)


def report(found: Survey, dataset: Dataset, cache: Cache) -> str:
    """The summary, and what was kept from earlier runs and is kept for later ones. Tidies the cache up."""
    size = cache.shrink() / (1 << 20)
    return (
        f"{summary(found)}\n{dataset.kept} of {len(dataset.clips)} clips were kept from earlier runs\n"
        f"Kept in {cache.folder}: {size:.1f} MB (at most {cache.most >> 30} GB; may be deleted at any time)"
    )
