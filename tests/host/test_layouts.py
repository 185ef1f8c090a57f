"""The same weights in every published layout make the same clip."""

import re

import pytest
import safetensors.torch
import torch


def hotshot(tensors: dict) -> dict:
    def name(key: str) -> str:
        key = re.sub(r"motion_modules\.(\d)\.temporal_transformer", r"temporal_attentions.\1", key)
        return key.replace("pos_encoder.pe", "pos_encoder.positional_encoding")

    return {name(key): value for key, value in tensors.items()}


def diffusers(tensors: dict) -> dict:
    names = {"attention_blocks.0": "attn1", "attention_blocks.1": "attn2", "norms.0": "norm1", "norms.1": "norm2"}
    names |= {"ff_norm": "norm3", ".temporal_transformer": "", "attn1.pos_encoder.pe": "pos_embed.pe"}
    renamed = {}
    for key, value in tensors.items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        if "attn2.pos_encoder" not in key:  # one table for both attention blocks
            renamed[key] = value
    return renamed


def without_tables(tensors: dict) -> dict:
    return {key: value for key, value in tensors.items() if not key.endswith(".pe")}


def training_wrapper(tensors: dict) -> dict:
    return {"state_dict": {f"module.{key}": value for key, value in tensors.items()}, "epoch": 3}


@pytest.mark.parametrize("blocks", ["SD1.5", "SDXL"])
@pytest.mark.parametrize("mid", [True, False])
@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (hotshot, "HotshotXL"),
        (diffusers, "AnimateDiff"),
        (without_tables, "AnimateLCM"),
        (training_wrapper, "AnimateDiff"),
    ],
)
def test_layouts(pack, layouts, new_model, new_motion_file, animate, sample, tmp_path, layout, expected, blocks, mid):
    load = pack.submodule("motion_models.files.motion_model").load_motion_model
    path = new_motion_file(layouts[blocks], mid=mid, frames=24)
    converted = layout(safetensors.torch.load_file(path))
    if layout is training_wrapper:
        other = str(tmp_path / "other.ckpt")
        torch.save(converted, other)
    else:
        other = str(tmp_path / "other.safetensors")
        safetensors.torch.save_file(converted, other)
    ours, theirs = load(path), load(other)
    assert theirs.model.spec.layout == expected
    assert theirs.model.spec.joint_group_norm is not mid
    model = new_model(layouts[blocks])
    clips = [sample(animate(model, motion, beta_schedule="use existing"), steps=2) for motion in (ours, theirs)]
    assert torch.equal(*clips)
