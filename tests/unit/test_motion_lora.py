"""MotionLoRA files: every published layout, what wrong files are told to be, and saving."""

from __future__ import annotations

import os

import pytest
import safetensors
import safetensors.torch
import torch

CHANNELS, RANK = 32, 3
MODULE = "motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks"
LAYERS = [
    f"{block}.{MODULE}.{attention}.{projection}"
    for block in ("down_blocks.0", "mid_block", "up_blocks.1")
    for attention in (0, 1)
    for projection in ("to_q", "to_k", "to_v", "to_out.0")
]


@pytest.fixture(scope="session")
def motion_lora(pack):
    return pack.submodule("lora.motion_lora")


@pytest.fixture(scope="session")
def pairs() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {
        layer: (
            torch.randn(RANK, CHANNELS, generator=generator).half(),
            torch.randn(CHANNELS, RANK, generator=generator).half(),
        )
        for layer in LAYERS
    }


def published(pairs) -> dict[str, torch.Tensor]:
    """AnimateDiff's own layout, written out independently of the code under test."""
    tensors = {}
    for layer, (down, up) in pairs.items():
        attention, projection = layer.replace("to_out.0", "to_out").rsplit(".", 1)
        tensors[f"{attention}.processor.{projection}_lora.down.weight"] = down
        tensors[f"{attention}.processor.{projection}_lora.up.weight"] = up
    return tensors


def diffusers(pairs, half: str, prefix: str = "", out: str = "to_out.0") -> dict[str, torch.Tensor]:
    """diffusers' module names; ``half`` is what follows them, with D for down, U for up."""
    tensors = {}
    names = {"temporal_transformer.": "", "attention_blocks.0": "attn1", "attention_blocks.1": "attn2", "to_out.0": out}
    for layer, (down, up) in pairs.items():
        for ours, theirs in names.items():
            layer = layer.replace(ours, theirs)
        for which, value in (("down", down), ("up", up)):
            letter = "A" if which == "down" else "B"
            tensors[f"{prefix}{layer}{half.format(which=which, letter=letter)}"] = value
    return tensors


LAYOUTS = {
    "AnimateDiff": published,
    "AnimateDiff below a prefix": lambda pairs: {f"unet.{key}": value for key, value in published(pairs).items()},
    "diffusers, old processors": lambda pairs: {
        key.replace(".to_", ".processor.to_"): value
        for key, value in diffusers(pairs, "_lora.{which}.weight", out="to_out").items()
    },
    "diffusers": lambda pairs: diffusers(pairs, ".lora.{which}.weight", "unet."),
    "diffusers, linear layers": lambda pairs: diffusers(pairs, ".lora_linear_layer.{which}.weight", "unet."),
    "peft in diffusers": lambda pairs: diffusers(pairs, ".lora_{letter}.weight", "unet."),
    "peft": lambda pairs: diffusers(pairs, ".lora_{letter}.default.weight", "base_model.model."),
    "kohya's halves": lambda pairs: diffusers(pairs, ".lora_{which}.weight"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_every_published_layout(motion_lora, pairs, tmp_path, layout):
    path = str(tmp_path / "zoom.safetensors")
    safetensors.torch.save_file(LAYOUTS[layout](pairs), path)
    lora = motion_lora.read_motion_lora(path)
    assert (lora.name, lora.rank, lora.has_mid) == ("zoom", RANK, True)
    assert lora.pairs.keys() == pairs.keys()
    for layer, (down, up) in pairs.items():
        assert torch.equal(lora.pairs[layer][0], down)
        assert torch.equal(lora.pairs[layer][1], up)


def test_reads_a_ckpt_below_state_dict(motion_lora, pairs, tmp_path):
    path = str(tmp_path / "zoom.ckpt")
    torch.save({"state_dict": {f"module.{key}": value for key, value in published(pairs).items()}}, path)
    assert motion_lora.read_motion_lora(path).pairs.keys() == pairs.keys()


def test_alpha_scales_the_change(motion_lora, pairs, tmp_path):
    path = str(tmp_path / "alpha.safetensors")
    tensors = diffusers(pairs, ".lora_{which}.weight")
    alphas = {key.replace(".lora_up.weight", ".alpha"): torch.tensor(1.5) for key in tensors if "lora_up" in key}
    safetensors.torch.save_file(tensors | alphas, path)
    lora = motion_lora.read_motion_lora(path)
    for layer, (down, up) in pairs.items():
        found_down, found_up = lora.pairs[layer]
        torch.testing.assert_close(found_up.float() @ found_down.float(), 1.5 / RANK * up.float() @ down.float())


ONE = torch.zeros(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda pairs: {
                "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight": ONE
            },
            r"'file\.safetensors' is no MotionLoRA\. It is an ordinary LoRA .*domain adapter.*models/loras.*Load Domain Adapter",
        ),
        (lambda pairs: {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": ONE}, "ordinary LoRA"),
        (
            lambda pairs: {"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": ONE},
            r"'file\.safetensors' is no MotionLoRA\. It is a motion model.*animatediff_models.*AnimateDiff: Load Model",
        ),
        (lambda pairs: {"first_stage_model.encoder.conv_in.weight": ONE}, "whole checkpoint.*Load Checkpoint"),
        (
            lambda pairs: dict(list(published(pairs).items())[1:]),
            r"is damaged: of .*to_q it has lora_up\.weight \(32, 3\), which do not make a change",
        ),
        (lambda pairs: {key: value[:2] for key, value in published(pairs).items()}, "is damaged"),
        (
            lambda pairs: published(pairs) | {"down_blocks.0.motion_modules.0.attn1.to_q.lora_magnitude_vector": ONE},
            r"changes layers of a motion model by DoRA, which cannot be applied here\. Merge it",
        ),
    ],
)
def test_a_wrong_file_is_told_what_it_is(motion_lora, pairs, tmp_path, make, message):
    path = str(tmp_path / "file.safetensors")
    safetensors.torch.save_file({key: value.contiguous() for key, value in make(pairs).items()}, path)
    with pytest.raises(motion_lora.LoraFileError, match=message):
        motion_lora.read_motion_lora(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_saves_in_the_published_layout(motion_lora, pairs, tmp_path, dtype):
    path = str(tmp_path / "saved.safetensors")
    lora = motion_lora.MotionLora("right", {layer: (d.float() / 3, u.float() / 3) for layer, (d, u) in pairs.items()})
    metadata = {"animatediff.base": "v3_sd15_mm", "animatediff.steps": 500, "animatediff.caption": "ein roter Kreis, ä"}
    motion_lora.save_motion_lora(lora, path, metadata, dtype)
    expected = {key: (value.float() / 3).to(dtype) for key, value in published(pairs).items()}
    with safetensors.safe_open(path, "pt") as file:
        assert set(file.keys()) == expected.keys()
        for key, value in expected.items():
            assert torch.equal(file.get_tensor(key), value)
        assert file.metadata() == {
            "format": "pt",
            "animatediff.base": "v3_sd15_mm",
            "animatediff.steps": "500",
            "animatediff.caption": "ein roter Kreis, ä",
            "animatediff.rank": str(RANK),
            "animatediff.pack_version": "0.1.0",
        }
    again = motion_lora.read_motion_lora(path)
    assert again.metadata["animatediff.steps"] == "500"
    for layer, (down, up) in lora.pairs.items():
        torch.testing.assert_close(again.pairs[layer][0], down.to(dtype))
        torch.testing.assert_close(again.pairs[layer][1], up.to(dtype))


def test_saving_never_overwrites_and_leaves_nothing_half_written(motion_lora, pairs, tmp_path, monkeypatch):
    path = tmp_path / "saved.safetensors"
    lora = motion_lora.MotionLora("right", pairs)
    motion_lora.save_motion_lora(lora, str(path))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"was not overwritten\. Choose another name"):
        motion_lora.save_motion_lora(lora, str(path))
    assert path.read_bytes() == before

    def disk_full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(OSError, match="no space"):
        motion_lora.save_motion_lora(lora, str(tmp_path / "other.safetensors"))
    assert os.listdir(tmp_path) == ["saved.safetensors"]


def test_what_does_not_fit_float16_is_not_saved(motion_lora, pairs, tmp_path):
    layer = LAYERS[0]
    lora = motion_lora.MotionLora("burst", {layer: (pairs[layer][0].float() * 1e6, pairs[layer][1])})
    with pytest.raises(ValueError, match=r"1 of 2 tensors hold NaN or infinity.*float32"):
        motion_lora.save_motion_lora(lora, str(tmp_path / "burst.safetensors"))
    assert not os.listdir(tmp_path)


def test_the_version_noted_in_files_is_that_of_the_pack(pack):
    from animatediff_dev_hosts import ROOT

    version = pack.submodule("motion_models.files.saving").PACK_VERSION
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
