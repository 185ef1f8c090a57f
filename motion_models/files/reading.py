"""Any model file -> its tensors by name, and its metadata. Nothing in a file is ever executed."""

import errno
import logging
import os
import pickle
import re
import struct
from collections import defaultdict

import comfy.utils
import torch

from ...host.patcher import maps_files
from ..layouts import EMA, FANCY_VIDEO, WRAPPERS, Tensors
from . import bounds
from .beside import parts, tied_tensors
from .errors import MotionModelFileError, outside_cause
from .quantised import refusal_of_quantised
from .stored import in_file, places

Metadata = dict[str, str]
Contents = tuple[Tensors, Metadata]
SAFETENSORS = (".safetensors", ".sft")
GGUF = b"GGUF"
# Of whose tensors PyTorch says that it will not make them.
QUANTISERS = re.compile(r"GLOBAL (torchao|bitsandbytes|optimum\.quanto)\.")


def read_tensors(path: str) -> Contents:
    """All tensors of a file by name, and its metadata; of all parts of it if it is one part of several.

    Those of .safetensors files are mapped: what is to be kept has to be read (``stored.values``).

    Raises MotionModelFileError for what is damaged, unsafe or too much; MemoryError and OSErrors with a message that
    says what to do.
    """
    name = os.path.basename(path)
    tensors: Tensors = {}
    metadata: Metadata = {}
    try:
        of_file = parts(path)
        if len(of_file) > 1:
            logging.info("[AnimateDiff] '%s' is one part of %d: all of them are read", name, len(of_file))
        for part in of_file:
            more, about = _read(part)
            tensors |= more
            metadata |= about
        metadata |= tied_tensors(path)
    except MotionModelFileError:
        raise
    except pickle.UnpicklingError as error:
        tool = QUANTISERS.search(str(error))
        if tool is not None:
            raise MotionModelFileError(refusal_of_quantised(name, tool[1])) from error
        raise MotionModelFileError(
            f"'{name}' was not loaded: it holds Python objects other than tensors, which could run code on this "
            "machine, or it is damaged. Use a .safetensors version of it, or download it again."
        ) from error
    except Exception as error:  # whatever a reader stumbles over in a damaged file: KeyError, struct.error, ...
        outside = outside_cause(name, error)
        beyond_its_end = getattr(error, "errno", None) == errno.EINVAL  # where a reader of a cut-off file looks
        if outside is not None and not beyond_its_end:
            raise outside from error
        raise MotionModelFileError(
            f"'{name}' cannot be read: it is damaged, cut off, or not a {os.path.splitext(name)[1]} file. "
            "Download it again and compare its size."
        ) from error
    if not tensors:
        raise MotionModelFileError(f"'{name}' holds no named tensors. Download it again or use another file.")
    # what safetensors stores once though it has several names: left-out name -> kept name
    tensors |= {key: tensors[kept] for key, kept in metadata.items() if kept in tensors and key not in tensors}
    return _one_copy(name, tensors), metadata


def _read(path: str) -> Contents:
    name = os.path.basename(path)
    header = b""
    # by hand, because readers tell a file that may not be opened as one that does not exist
    with open(path, "rb") as file:
        beginning = file.read(8)
        if not beginning:
            raise MotionModelFileError(f"'{name}' is empty (0 bytes). Download it again.")
        if beginning.startswith(GGUF):
            raise MotionModelFileError(refusal_of_quantised(name, "GGUF tools"))
        safetensors = path.lower().endswith(SAFETENSORS)
        if safetensors and len(beginning) == 8:
            header = file.read(min(struct.unpack("<Q", beginning)[0], bounds.MAX_HEADER))
            bounds.check_header(name, header)
    if safetensors:
        content, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
        if maps_files():
            content = in_file(path, content, places(header))
    else:
        bounds.check_archive(path)
        content, metadata = _unwrapped(name, torch.load(path, map_location="cpu", weights_only=True)), {}
    tensors = bounds.flattened(name, content) if isinstance(content, dict) else {}
    bounds.check_tensors(path, tensors)
    if tensors and isinstance(content, dict) and FANCY_VIDEO in content:
        tensors[FANCY_VIDEO] = torch.empty(0)  # it need not be a tensor
    return tensors, {key: value for key, value in (metadata or {}).items() if isinstance(value, str)}


def _unwrapped(name: str, content: object) -> object:
    """What a pickle is about: its state_dict, or its only entry, if it has one and that is a dictionary.

    The host's own reader does the same, but does not say what it leaves out.
    """
    if not isinstance(content, dict):
        return content
    if "state_dict" in content:
        averaged = [
            str(key) for key, value in content.items() if isinstance(value, dict) and re.fullmatch(EMA, str(key))
        ]
        if averaged:
            _tell_copies(name, "state_dict", averaged)
        return content["state_dict"]
    only = next(iter(content.values())) if len(content) == 1 else None
    return only if isinstance(only, dict) else content


def _one_copy(name: str, tensors: Tensors) -> Tensors:
    """``tensors`` without the copies of weights that a file holds more than once, below different prefixes.

    What was averaged (EMA) gives way, then what comes later in the file.
    """
    copies: dict[str, dict[str, str]] = defaultdict(dict)  # prefix -> name without it -> name
    for key in tensors:
        match = re.match(WRAPPERS, key)
        prefix = match[0] if match else ""
        copies[prefix][key[len(prefix) :]] = key
    taken: Tensors = {}
    prefix_of: dict[str, str] = {}  # of what is taken: name without prefix -> prefix
    for prefix in sorted(copies, key=lambda prefix: any(re.fullmatch(EMA, word) for word in prefix.split("."))):
        again = next((rest for rest in copies[prefix] if rest in prefix_of), None)
        if again is None:
            taken |= {key: tensors[key] for key in copies[prefix].values()}
            prefix_of |= dict.fromkeys(copies[prefix], prefix)
        else:
            _tell_copies(name, f"{prefix_of[again]}{again}", [f"{prefix}{again}"])
    return taken


def _tell_copies(name: str, taken: str, left: list[str]) -> None:
    logging.info(
        "[AnimateDiff] '%s' holds its weights more than once: %s is used, %s is not.", name, taken, ", ".join(left)
    )
