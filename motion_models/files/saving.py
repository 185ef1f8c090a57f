"""Writing model files: whole or not at all, and never over one that exists."""

import os
from collections.abc import Mapping

import safetensors.torch
import torch

from ...host.writing import whole_file

# The version of this pack, noted in the files that it writes (the one in pyproject.toml).
PACK_VERSION = "0.1.0"
# Metadata keys are "animatediff." and one of: heads, version (motion models); rank, alpha (LoRAs); base, steps,
# objective, caption.
METADATA_PREFIX = "animatediff."


def save_tensors(tensors: Mapping[str, torch.Tensor], path: str, metadata: Mapping[str, object]) -> None:
    """Write ``tensors`` to a new safetensors file at ``path``, with ``metadata`` and the version of this pack.

    Raises FileExistsError if there is a file, NotSaved if it cannot be written, and ValueError if a tensor holds NaN or
    infinity: a reader would take such a file without a word, and every picture made with it would be black.
    """
    if os.path.exists(path):
        raise FileExistsError(f"'{path}' exists already and was not overwritten. Choose another name.")
    broken = [name for name, value in tensors.items() if not torch.isfinite(value.float()).all()]
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
