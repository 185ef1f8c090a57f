"""What stands beside a model file and belongs to it: its other parts, and the config.json of diffusers."""

import json
import logging
import os
import re
from collections.abc import Iterable

from ...host.folders import fingerprint
from ...host.told import Told
from ..layouts import Tensors, is_diffusers
from ..network.temporal import NORM_GROUPS
from .errors import MotionModelFileError, outside_cause

MAX_JSON = 1 << 20  # bytes
# How diffusers and transformers name the parts of a file: model-00001-of-00009.safetensors
PART = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)$")
CONFIG = "config.json"
PEFT_CONFIG = "adapter_config.json"
# Classes of diffusers with motion modules -> what they call the number of groups in a motion module's norm.
GROUPS_OF = {"MotionAdapter": "motion_norm_num_groups", "UNetMotionModel": "norm_num_groups"}
HEADS_OF = ("motion_num_attention_heads", "reverse_motion_num_attention_heads")
WIDTH = re.compile(r"motion_modules\.\d+\.norm\.weight$")


class NoJson(Told, ValueError):
    """A file beside a model that is not what its name says; the message completes "config.json …"."""


def json_beside(path: str, file_name: str) -> dict | None:
    """The object in the JSON file ``file_name`` in the folder of ``path``; None if there is no such file.

    Raises NoJson, and OSErrors and MemoryError with a message that says what to do.
    """
    try:
        with open(os.path.join(os.path.dirname(path), file_name), "rb") as file:
            text = file.read(MAX_JSON + 1)
    except FileNotFoundError:
        return None
    except (OSError, MemoryError) as error:
        raise outside_cause(file_name, error) or error from error
    if len(text) > MAX_JSON:
        raise NoJson(f"is larger than {MAX_JSON >> 20} MB")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, numbers of thousands of digits; too deep
        raise NoJson("is damaged or no JSON") from error
    if not isinstance(content, dict):
        raise NoJson("holds no object")
    return content


def parts(path: str) -> list[str]:
    """The paths of all parts of the file that ``path`` is one part of; ``path`` alone if it is a whole file.

    Raises MotionModelFileError if parts are missing.
    """
    folder, name = os.path.split(path)
    part = PART.match(name)
    if part is None:
        return [path]
    there = {
        int(other["number"]): os.path.join(folder, other[0])
        for other in map(PART.match, os.listdir(folder or os.curdir))
        if other and all(other[key] == part[key] for key in ("stem", "count", "suffix"))
    }
    count = int(part["count"])
    missing = [str(number) for number in range(1, count + 1) if number not in there]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise MotionModelFileError(
            f"'{name}' is one part of {count}, and these parts are not in its folder: {', '.join(missing[:8])}{more}. Put all "
            "parts, under the names they were downloaded with, into one folder and choose any of them."
        )
    return [there[number] for number in range(1, count + 1)]


def state_of(path: str) -> tuple | None:
    """Another value when a file has changed, one of its parts, or what may stand beside it; None if the file is not there."""
    folder = os.path.dirname(path)
    try:
        of_file = parts(path)
    except (MotionModelFileError, OSError):  # whoever reads it is told what is wrong
        of_file = [path]
    beside = [os.path.join(folder, name) for name in (CONFIG, PEFT_CONFIG, *_index_of(path))]
    found = tuple(map(fingerprint, (*of_file, *beside)))
    return found if fingerprint(path) is not None else None


def _index_of(path: str) -> list[str]:
    """The name of the index of a file in parts."""
    part = PART.match(os.path.basename(path))
    return [f"{part['stem']}{part['suffix']}.index.json"] if part else []


def tied_tensors(path: str) -> dict[str, str]:
    """What the index of a file in parts tells of tensors that are stored once under several names: name -> stored name."""
    names = _index_of(path)
    if not names:
        return {}
    (index,) = names
    try:
        metadata = (json_beside(path, index) or {}).get("metadata")
    except NoJson as broken:
        raise MotionModelFileError(
            f"'{index}', the index of the parts of '{os.path.basename(path)}', {broken}. Download it again."
        ) from broken
    return (
        {key: value for key, value in metadata.items() if isinstance(value, str)} if isinstance(metadata, dict) else {}
    )


def heads_in_config(path: str, tensors: Tensors) -> int | None:
    """The attention heads that diffusers notes beside the file ``path``, whose tensors do not tell them.

    None if the file has other names than diffusers', or no config.json that belongs to it. Raises MotionModelFileError
    for a broken one, or one of a motion model that cannot be run.
    """
    if not is_diffusers(tensors):
        return None
    name = os.path.basename(path)
    try:
        config = json_beside(path, CONFIG) or {}
        kind = config.get("_class_name")
        if not isinstance(kind, str) or kind not in GROUPS_OF:
            return None
        widths = {value.numel() for key, value in tensors.items() if WIDTH.search(key)}
        if not widths <= set(_numbers(config, "block_out_channels")):
            logging.warning("[AnimateDiff] The %s beside '%s' is of another model and was left out.", CONFIG, name)
            return None
        groups = set(_numbers(config, GROUPS_OF[kind]))
        heads = {number for key in HEADS_OF for number in _numbers(config, key)}
    except NoJson as broken:
        raise MotionModelFileError(
            f"The {CONFIG} beside '{name}', which tells its number of attention heads, {broken}. Download it again; if it "
            "belongs to another model, give each a folder of its own."
        ) from broken
    if len(heads) > 1:
        raise MotionModelFileError(_cannot_run(name, heads, "heads in its attention", "the same number everywhere"))
    if groups - {NORM_GROUPS}:
        raise MotionModelFileError(_cannot_run(name, groups, "groups in its norms", str(NORM_GROUPS)))
    return heads.pop() if heads else None


def _cannot_run(name: str, found: set[int], what: str, only: str) -> str:
    return (
        f"'{name}' has {' and '.join(map(str, sorted(found)))} {what} (it says so in the {CONFIG} beside it); only motion "
        f"models with {only} can be used. Use another motion model."
    )


def _numbers(config: dict, key: str) -> Iterable[int]:
    """The numbers of an entry that is a number, nested lists of them, or missing."""
    value = config.get(key)
    if value is None:
        return
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
            yield value
        else:
            raise NoJson(f"has a {key} that is no positive integer")
