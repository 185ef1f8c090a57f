"""A motion model as diffusers has it: a folder with a ``config.json`` and a file of tensors in its names (MotionAdapter)."""

import json
import os
from collections.abc import Mapping

import torch

from ...host.patcher import plain_state_dict
from ...host.writing import whole_folder
from ..layouts import DIFFUSERS_TABLE, TABLE, Tensors, diffusers_name
from ..network.temporal import NORM_GROUPS
from ..spec import MotionModelSpec
from .beside import CONFIG
from .errors import MotionModelFileError
from .saving import HEADS_METADATA, LAYOUT_METADATA, VERSION_METADATA, check_new, check_savable, save_tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
ATTENTION_BLOCKS = 2
INSTEAD = "Save it in the format AnimateDiff."


def save_motion_adapter(
    patcher, path: str, metadata: Mapping[str, object] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write the motion model of ``patcher`` to a new folder that diffusers' ``MotionAdapter.from_pretrained`` takes.

    Arguments and errors are those of ``saving.save_motion_model``; MotionModelFileError as well for a network that
    diffusers does not have.
    """
    spec: MotionModelSpec = patcher.model.spec
    check_savable(patcher)
    config = adapter_config(spec)
    tensors = _adapter_tensors(spec.name, plain_state_dict(patcher), dtype)
    known = {HEADS_METADATA: spec.heads, VERSION_METADATA: spec.version, LAYOUT_METADATA: spec.layout}
    check_new(path)
    with whole_folder(path) as folder:
        with open(os.path.join(folder, CONFIG), "w", encoding="utf-8") as file:
            json.dump(config, file, indent=2)
        save_tensors(tensors, os.path.join(folder, WEIGHTS), {**known, **(metadata or {})})


def adapter_config(spec: MotionModelSpec) -> dict[str, object]:
    """What diffusers makes a MotionAdapter of the shape of ``spec`` from (0.42.1, ``MotionAdapter.__init__``)."""
    layers = [len(level) for level in spec.down]
    mirrored = [(channels,) * (count + 1) for channels, count in zip(spec.levels[::-1], layers[::-1], strict=False)]
    if not spec.down or list(spec.up) != mirrored or spec.attention_blocks != ATTENTION_BLOCKS:
        raise MotionModelFileError(
            f"'{spec.name}' cannot be saved for diffusers, whose motion models have {ATTENTION_BLOCKS} attention blocks in each "
            f"module and one module more in each level of the up blocks than in the down blocks. {INSTEAD}"
        )
    return {
        "_class_name": "MotionAdapter",
        "block_out_channels": list(spec.levels),
        "motion_layers_per_block": layers,
        "motion_mid_block_layers_per_block": len(spec.mid) or 1,
        "motion_num_attention_heads": spec.heads,
        "motion_norm_num_groups": NORM_GROUPS,
        "motion_max_seq_length": spec.max_frames,
        "use_motion_mid_block": bool(spec.mid),
    }


def _adapter_tensors(model: str, tensors: Tensors, dtype: torch.dtype | None) -> Tensors:
    renamed: Tensors = {}
    for name, value in tensors.items():
        if not name.endswith(TABLE):
            renamed[diffusers_name(name)] = value if dtype is None else value.to(dtype)
            continue
        block, _ = name.split(".attention_blocks.")
        if not torch.equal(value, tensors[f"{block}.attention_blocks.0{TABLE}"]):
            raise MotionModelFileError(
                f"'{model}' cannot be saved for diffusers: the attention blocks of {block} have position tables of their own, "
                f"and diffusers has one for both. {INSTEAD}"
            )
        renamed[f"{diffusers_name(block)}{DIFFUSERS_TABLE}"] = value
    return renamed
