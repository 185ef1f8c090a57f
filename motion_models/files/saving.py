"""Writing model files: whole or not at all, and never over one that exists."""

import logging
import os
from collections.abc import Mapping

import safetensors.torch
import torch

from ...host.patcher import parts, plain_state_dict
from ...host.writing import whole_file
from ..layouts import LAYOUTS, TABLE
from ..spec import MotionModelSpec
from .errors import MotionModelFileError
from .numbers import is_finite

# The version of this pack, noted in the files that it writes (the one in pyproject.toml).
PACK_VERSION = "0.1.0"
# Metadata keys are "animatediff." and one of: heads, version (motion models); rank, alpha (LoRAs); base, steps,
# objective, caption.
METADATA_PREFIX = "animatediff."
# What tensors do not tell: the heads, the version of modules of other levels or without a mid block, and the layout of
# those that were saved in diffusers' names.
HEADS_METADATA = f"{METADATA_PREFIX}heads"
VERSION_METADATA = f"{METADATA_PREFIX}version"
LAYOUT_METADATA = f"{METADATA_PREFIX}layout"


def check_new(path: str) -> None:
    if os.path.exists(path):
        raise FileExistsError(f"'{path}' exists already and was not overwritten. Choose another name.")


def save_tensors(tensors: Mapping[str, torch.Tensor], path: str, metadata: Mapping[str, object]) -> None:
    """Write ``tensors`` to a new safetensors file at ``path``, with ``metadata`` and the version of this pack.

    Raises FileExistsError if there is a file, NotSaved if it cannot be written, and ValueError if a tensor holds NaN or
    infinity: a reader would take such a file without a word, and every picture made with it would be black.
    """
    check_new(path)
    broken = [name for name, value in tensors.items() if value.is_floating_point() and not is_finite(value)]
    if broken:
        raise ValueError(
            f"Nothing was saved: {len(broken)} of {len(tensors)} tensors hold NaN or infinity ({broken[0]}, …). "
            "If they were trained, train again with a lower learning rate; if saved as float16, try float32."
        )
    metadata = {"format": "pt", **metadata, f"{METADATA_PREFIX}pack_version": PACK_VERSION}
    with whole_file(path) as unfinished:
        safetensors.torch.save_file(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            unfinished,
            {key: str(value) for key, value in metadata.items()},
        )


def check_savable(patcher) -> None:
    """Raise MotionModelFileError for models whose image inputs would be lost; what stays behind else is told in the log."""
    spec: MotionModelSpec = patcher.model.spec
    layout = LAYOUTS[spec.layout]
    if not spec.attention_blocks:
        raise MotionModelFileError(
            f"'{spec.name}' has no motion modules to save: it is an image encoder alone. Connect the output MOTION_MODEL of its "
            "loader, or keep the file that it came from."
        )
    if layout.not_saved:
        raise MotionModelFileError(
            f"'{spec.name}' is a {layout.name} model; {layout.not_saved}. Save a motion model without one."
        )
    if parts(patcher):
        logging.warning(
            "[AnimateDiff] '%s' is saved without its %s, which stays in the file that it came from.",
            spec.name,
            " and ".join(parts(patcher)),
        )


def save_motion_model(
    patcher, path: str, metadata: Mapping[str, object] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write the motion model of ``patcher`` to a new safetensors file, in AnimateDiff's tensor names.

    The weights are those without any LoRA; ``dtype`` None keeps theirs. ``metadata`` is added to what the reader needs.
    Raises what save_tensors raises, and MotionModelFileError for models whose image inputs would be lost.
    """
    check_savable(patcher)
    write_motion_model(patcher.model.spec, plain_state_dict(patcher), path, metadata, dtype)


def write_motion_model(
    spec: MotionModelSpec,
    weights: Mapping[str, torch.Tensor],
    path: str,
    metadata: Mapping[str, object] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """``save_motion_model`` of what is no host's model: its specification and its weights."""
    layout = LAYOUTS[spec.layout]
    tensors = {}
    for name, value in weights.items():
        if not name.endswith(TABLE):
            tensors[name] = value if dtype is None else value.to(dtype)
        elif layout.table is not None:  # readers know some layouts by their tables
            tensors[name.removesuffix(TABLE) + layout.table] = value
    known = {HEADS_METADATA: spec.heads, VERSION_METADATA: spec.version}
    save_tensors(tensors, path, {**known, **(metadata or {})})
