"""What can keep a file from being read, and how it is told: the file's own faults apart from the machine's."""

import errno
import os
import re

import torch

from ...host.told import Told


class MotionModelFileError(Told, ValueError):
    """A file that is no usable motion model; the message says what it is and what to do."""


# How readers call a lack of memory that is no MemoryError: PyTorch's allocators, and Windows.
OUT_OF_MEMORY = re.compile(r"allocate memory|not enough memory|out of memory|paging file", re.IGNORECASE)
# safetensors tells errors of the system by this alone.
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
WINDOWS_OUT_OF_MEMORY = (8, 14, 1455)  # the last: the paging file is too small


def outside_cause(name: str, error: Exception) -> Exception | None:
    """What to raise for an ``error`` while reading the file ``name`` that is no fault of the file; else None.

    Of the class of the error where it has one of its own (MemoryError, PermissionError, FileNotFoundError, …).
    """
    system = error if isinstance(error, OSError) else _system_error(error)
    if isinstance(error, torch.cuda.OutOfMemoryError):  # the host frees GPU memory for this class only
        return type(error)(_out_of_memory(name))
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)) or _lacks_memory(system):
        return MemoryError(_out_of_memory(name))
    if system is None:
        return None
    return type(system)(f"'{name}' could not be read{_what_and_what_to_do(system)}")


def _system_error(error: Exception) -> OSError | None:
    code = SYSTEM_ERROR.search(str(error))
    if code is None:
        return None
    # OSError picks the class that belongs to the code: PermissionError, …
    return OSError(0, str(error), None, int(code[1])) if os.name == "nt" else OSError(int(code[1]), str(error))


def _lacks_memory(system: OSError | None) -> bool:
    return system is not None and (
        system.errno == errno.ENOMEM or getattr(system, "winerror", None) in WINDOWS_OUT_OF_MEMORY
    )


def _out_of_memory(name: str) -> str:
    return (
        f"There is not enough memory to read '{name}'. The file may well be whole: close other programs or unload models, "
        "and run again. On Windows a larger paging file helps."
    )


def _what_and_what_to_do(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return ": it is not there. Check its name and folder, and that its drive is connected; press R to read the folders again."
    if isinstance(error, PermissionError):
        return (
            ": ComfyUI has no permission to read it, or another program keeps it locked. Allow the user who runs ComfyUI to "
            "read it, or close that program."
        )
    if isinstance(error, IsADirectoryError):
        return ": it is a folder. Choose a file."
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return ": too many files are open. Restart ComfyUI."
    reason = error.strerror or str(error) or type(error).__name__
    return f" from its drive ({reason}). The file may well be whole: check the drive or the network connection, and run again."
