"""The files of a data set: videos with their captions and repeats, as kohya's scripts lay them out.

A video ``NAME.mp4`` has its caption in ``NAME.txt`` beside it, and is seen ``10`` times as often in a folder ``10_words``.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...host.allowed_paths import PathNotAllowed, path_in_input
from ...host.told import Told

CAPTION = ".txt"
REPEATS = re.compile(r"(\d{1,9})_")
MOST_REPEATS = 1000
MOST_FILES = 100_000
MOST_BYTES = 64 << 10  # of a caption
MOST_SHOWN = 100  # letters of a name, in a message
# What lies beside videos and is none. Everything else is tried, whatever its name: PyAV knows more containers than a list.
NO_VIDEOS = {
    *(".txt", ".caption", ".json", ".jsonl", ".csv", ".md", ".html", ".xml", ".yaml", ".yml", ".toml", ".ini", ".log"),
    *(".py", ".sh", ".bat", ".srt", ".vtt", ".ass", ".nfo", ".db", ".url", ".pdf", ".zip", ".7z", ".rar"),
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".psd", ".svg"),
    *(".npy", ".npz", ".pt", ".pth", ".ckpt", ".safetensors"),
}


class DatasetError(Told, ValueError):
    """A folder of which no clips can be made; the message says why and what to do."""


@dataclass(frozen=True)
class VideoFile:
    """A video below the folder. ``name``: its path there, with slashes. ``modified``: nanoseconds."""

    path: str
    name: str
    size: int
    modified: int
    caption: str
    repeats: int


@dataclass
class Notes:
    """What has to be told about files: reason -> their names. Few lines say much of a large folder then."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        self.by_reason.setdefault(reason, []).append(name)

    def lines(self, most: int = 10) -> list[str]:
        """One line for each reason, in the order of their first files."""
        lines = []
        for reason, names in self.by_reason.items():
            rest = f" and {len(names) - most} more" if len(names) > most else ""
            lines.append(f"{', '.join(names[:most])}{rest}: {reason}")
        return lines


@dataclass(frozen=True)
class Folder:
    """What is in a folder: ``videos`` in the order of their names, and ``others``, how many files are none."""

    videos: tuple[VideoFile, ...]
    notes: Notes
    others: int

    @property
    def fingerprint(self) -> str:
        """Another text when a video was added, removed or changed, or a caption was."""
        return hashlib.sha256(
            repr((self.videos, sorted(self.notes.by_reason.items()))).encode("utf-8", "replace")
        ).hexdigest()


def scan(folder: str, default_caption: str = "") -> Folder:
    """The videos below ``folder``, the value of a node's input, in ComfyUI's input folder, with their captions.

    Reads names, sizes and captions, and opens no video. ``default_caption`` serves videos without one. Links that lead out of
    the input folder are not looked at, links to folders not followed. Raises DatasetError and PathNotAllowed.
    """
    root = path_in_input(folder.strip(), "folder") if folder.strip() else ""
    if not os.path.isdir(root):
        shown = f"'{folder[:MOST_SHOWN]}'" if root else "that is named here"
        raise DatasetError(
            f"There is no folder {shown} in ComfyUI's input folder. Make one there and put the videos into it."
        )
    notes, videos, others = Notes(), [], 0
    for path, captions in _files(root, notes):
        name = os.path.relpath(path, root).replace(os.sep, "/")
        if os.path.splitext(name)[1].lower() in NO_VIDEOS:
            others += 1
            continue
        repeats = _repeats(name)
        if repeats > MOST_REPEATS:
            raise DatasetError(
                f"'{os.path.dirname(name)}' asks for {repeats} repeats, but at most {MOST_REPEATS} are possible. Rename the folder."
            )
        if not repeats:
            notes.add(name, "left out, as its folder asks for 0 repeats")
            continue
        try:
            found = os.stat(path)
        except OSError as error:
            notes.add(name, f"left out, as it cannot be read ({error.strerror})")
            continue
        caption = _caption(captions.get(os.path.splitext(path)[0]), name, default_caption, notes)
        videos.append(VideoFile(path, name, found.st_size, found.st_mtime_ns, caption, repeats))
    return Folder(tuple(sorted(videos, key=lambda video: video.name)), notes, others)


def _files(root: str, notes: Notes) -> Iterator[tuple[str, dict[str, str]]]:
    """Each file below ``root`` with the captions of its folder: path without ending -> path."""
    folders, count = [root], 0
    while folders:
        folder = folders.pop()
        files = []
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            notes.add(os.path.relpath(folder, root), f"a folder that cannot be read ({error.strerror})")
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not _allowed(entry.path):
                notes.add(
                    os.path.relpath(entry.path, root),
                    "a link that leads out of the input folder, so it was not looked at",
                )
            elif not entry.is_dir():
                files.append(entry.path)
            elif entry.is_symlink():
                notes.add(os.path.relpath(entry.path, root), "a link to a folder, which is not followed")
            else:
                folders.append(entry.path)
        count += len(files)
        if count > MOST_FILES:
            raise DatasetError(
                f"There are more than {MOST_FILES} files below '{os.path.basename(root)}'. Divide them into folders."
            )
        captions = {os.path.splitext(path)[0]: path for path in files if path.lower().endswith(CAPTION)}
        yield from ((path, captions) for path in files)


def _allowed(path: str) -> bool:
    try:
        path_in_input(path, "folder")
    except PathNotAllowed:
        return False
    return True


def _repeats(name: str) -> int:
    """How often a video is seen: the number that the innermost folder of its name with one begins with."""
    for folder in reversed(name.split("/")[:-1]):
        if match := REPEATS.match(folder):
            return int(match[1])
    return 1


def _caption(path: str | None, name: str, default: str, notes: Notes) -> str:
    instead = "so the default caption is used" if default.strip() else "so the empty text is learned with it"
    if path is None:
        notes.add(name, f"no caption file beside it, {instead}")
        return default.strip()
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            problem = f"its caption file is larger than {MOST_BYTES >> 10} KB"
        elif text := content.decode("utf-8-sig").strip():
            return text
        else:
            problem = "its caption file is empty"
    except UnicodeDecodeError:
        problem = "its caption file cannot be read (save it as UTF-8)"
    except OSError as error:
        problem = f"its caption file cannot be read ({error.strerror})"
    notes.add(name, f"{problem}, {instead}")
    return default.strip()
