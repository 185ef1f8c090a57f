"""New files: appear under their names when they are whole, or not at all."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import folder_paths

from .told import Told

# What an error number means to users, and what to do.
CAUSES = {
    errno.ENOSPC: "the disk is full. Free some space on it, then queue the workflow again",
    errno.EDQUOT: "the space that this user has on the disk is used up. Delete some files, then queue the workflow again",
    errno.EFBIG: "the file is too large for this disk. Make the clip shorter or smaller, or save to another disk",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM),
        "ComfyUI is not allowed to write there. Allow it in the permissions of the folder, or choose another folder",
    ),
    errno.EROFS: "the disk can only be read. Choose a folder on another disk",
    **dict.fromkeys(
        (errno.ENAMETOOLONG, errno.EINVAL),
        "this is no possible name of a file. Choose another, shorter filename_prefix",
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST), "a file has the name of one of these folders. Choose another filename_prefix"
    ),
}
# safetensors tells of errors of the system in its text only
ERROR_NUMBER = re.compile(r"\(os error (\d+)\)")


class NotSaved(Told, RuntimeError):
    """A file could not be written. The message says why, and what to do; nothing is left of it."""


@contextmanager
def whole_file(path: str) -> Iterator[str]:
    """A path to write to, beside ``path``. What was written gets the name ``path`` when the block ends.

    If it ends with an error or is interrupted, what was written is removed. Raises NotSaved for errors of the system.
    """
    unfinished = f"{path}.{os.getpid()}.part"
    try:
        with told_in_words(path):
            yield unfinished
            os.replace(unfinished, path)
    finally:
        with suppress(OSError):
            os.remove(unfinished)


@contextmanager
def whole_folder(path: str) -> Iterator[str]:
    """A new folder to write into, beside ``path``; the same for it as ``whole_file`` is for a file."""
    unfinished = f"{path}.{os.getpid()}.part"
    try:
        with told_in_words(path):
            os.mkdir(unfinished)
            yield unfinished
            os.rename(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def told_in_words(path: str) -> Iterator[None]:
    """Raise NotSaved in place of an error of the system that writing ``path`` can meet."""
    try:
        yield
    except Exception as error:
        cause = CAUSES.get(_number(error) or 0)
        if cause is None:
            raise
        raise NotSaved(f"'{path}' was not saved: {cause}.") from error


def _number(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = ERROR_NUMBER.search(str(error))
    # Windows has numbers of its own, which Python makes those of `errno`; elsewhere the last argument counts for nothing
    return found and OSError(int(found[1]), "", None, int(found[1])).errno


def new_name(prefix: str, folder: str, width: int = 0, height: int = 0) -> tuple[str, str, str]:
    """The folder, the name without extension, and the subfolder of ``folder`` of a new file. Makes the folder.

    ``prefix`` is what users write in the host's save nodes: a name, with folders and %date% variables in it or not; a
    counter is added. Raises ValueError for a prefix that leads out of ``folder``, and NotSaved.
    """
    folder = os.path.abspath(folder)
    wanted = os.path.abspath(os.path.join(folder, prefix))
    if wanted != folder and not wanted.startswith(os.path.join(folder, "")):
        raise ValueError(
            f"The filename_prefix '{prefix}' leads out of the folder '{folder}', where these files are saved. "
            "Write a name, or the name of a folder in there, a slash and a name: without '..', drive letter or leading slash."
        )
    with told_in_words(wanted):
        path, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, folder, width, height)
        os.makedirs(path, exist_ok=True)
    return path, f"{name}_{counter:05}_", subfolder
