"""What is said about files that are no motion models, or damaged ones."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch

DOWN = "down_blocks.0.motion_modules.0.temporal_transformer."
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1."

OTHER_KINDS = {  # tensor names -> words about what it is and where it belongs
    "MotionLoRA": (
        [f"{DOWN}transformer_blocks.0.attention_blocks.0.processor.to_q_lora.down.weight"],
        ("MotionLoRA", "models/animatediff_motion_lora"),
    ),
    "diffusers MotionLoRA": (
        ["unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.lora.down.weight"],
        ("MotionLoRA", "models/animatediff_motion_lora"),
    ),
    "peft MotionLoRA": (
        ["unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.lora_A.weight"],
        ("MotionLoRA", "models/animatediff_motion_lora"),
    ),
    "kohya MotionLoRA": (
        ["lora_unet_down_blocks_0_motion_modules_0_transformer_blocks_0_attn1_to_q.lora_down.weight"],
        ("MotionLoRA", "models/animatediff_motion_lora"),
    ),
    "v3 domain adapter": (
        [f"module.{ATTENTION}processor.to_q_lora.down.weight", f"module.{ATTENTION}processor.to_q_lora.up.weight"],
        ("LoRA", "domain adapter", "models/loras"),
    ),
    "kohya LoRA": (
        [
            "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
            "lora_unet_down_blocks_0_attentions_0_proj_in.alpha",
            "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        ],
        ("LoRA", "models/loras"),
    ),
    "LoHa": (["lora_unet_down_blocks_0_attentions_0_proj_in.hada_w1_a"], ("LoRA", "models/loras")),
    "ControlNet": (
        ["control_model.input_blocks.0.0.weight", "control_model.zero_convs.0.0.weight"],
        ("ControlNet", "models/controlnet"),
    ),
    "diffusers ControlNet": (
        ["conv_in.weight", "controlnet_cond_embedding.conv_in.weight", "controlnet_down_blocks.0.weight"],
        ("ControlNet", "models/controlnet"),
    ),
    "SparseCtrl": (
        ["controlnet_cond_embedding.weight", "controlnet_down_blocks.0.weight", f"{DOWN}norm.weight"],
        ("SparseCtrl", "models/controlnet"),
    ),
    "T2I adapter": (["body.0.in_conv.weight", "body.0.block1.weight", "conv_in.weight"], ("models/controlnet",)),
    "whole checkpoint": (
        [
            "model.diffusion_model.input_blocks.0.0.weight",
            "model.diffusion_model.middle_block.0.in_layers.0.weight",
            "first_stage_model.decoder.conv_in.weight",
            "cond_stage_model.transformer.text_model.embeddings.position_ids",
            "alphas_cumprod",
        ],
        ("whole checkpoint", "models/checkpoints", "Load Checkpoint"),
    ),
    "diffusers UNet": (
        [f"{ATTENTION}to_q.weight", "conv_in.weight", "mid_block.resnets.0.norm1.weight", "conv_out.weight"],
        ("UNet without motion modules", "models/diffusion_models"),
    ),
    "VAE": (["encoder.conv_in.weight", "decoder.mid.block_1.norm1.weight"], ("VAE", "models/vae")),
    "diffusers VAE": (["encoder.down_blocks.0.resnets.0.conv1.weight"], ("VAE", "models/vae")),
    "CLIP text encoder": (
        ["text_model.embeddings.token_embedding.weight", "text_model.encoder.layers.0.mlp.fc1.weight"],
        ("encoder", "models/text_encoders"),
    ),
    "T5": (["shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"], ("encoder", "models/text_encoders")),
    "CLIP vision": (["vision_model.encoder.layers.0.mlp.fc1.weight"], ("encoder", "models/clip_vision")),
    "textual inversion": (["emb_params"], ("textual inversion", "models/embeddings")),
    "SDXL textual inversion": (["clip_l", "clip_g"], ("textual inversion", "models/embeddings")),
    "diffusers textual inversion": (["<cat-toy>"], ("textual inversion", "models/embeddings")),
    "ESRGAN": (["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"], ("upscale", "models/upscale_models")),
    "Real-ESRGAN": (["conv_first.weight", "body.0.rdb1.conv1.weight"], ("upscale", "models/upscale_models")),
    "IPAdapter": (["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"], ("IPAdapter", "models/ipadapter")),
    "SVD": (
        [
            "model.diffusion_model.input_blocks.1.1.time_stack.0.attn1.to_q.weight",
            "conditioner.embedders.0.open_clip.model.visual.proj",
        ],
        ("video model", "SVD", "models/checkpoints"),
    ),
    "diffusers SVD": (
        ["down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight"],
        ("video model", "SVD", "models/checkpoints"),
    ),
    "HelloMeme's reference": (["reference_modules_up.0.norm.weight"], ("HelloMeme", "hm_animatediff")),
    "HelloMeme's own motion adapter": (["motion_down.0.temp_attn.to_q.weight"], ("HelloMeme", "hm_animatediff")),
    "something else": (["embedding.weight", "lstm.weight"], ("not known", "embedding.weight", "lstm.weight")),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_file_of_another_kind_is_named_and_sent_where_it_belongs(write, refusal, reading, kind):
    names, words = OTHER_KINDS[kind]
    message = refusal(write({name: torch.zeros(8, 8) for name in names}))
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.zeros(2, 768)}, "name": "style", "step": 9},
            ("textual inversion", "models/embeddings"),
        ),
        (
            {"image_proj": {"proj.weight": torch.zeros(2)}, "ip_adapter": {"1.to_k_ip.weight": torch.zeros(2)}},
            ("IPAdapter", "models/ipadapter"),
        ),
        ({"params_ema": {"conv_first.weight": torch.zeros(2)}}, ("upscale", "models/upscale_models")),
        ({"args": {"lr": 1e-4}, "epoch": 3}, ("no named tensors",)),
        ({}, ("no named tensors",)),
        ([torch.zeros(2), torch.zeros(2)], ("no named tensors",)),
        (torch.zeros(2), ("no named tensors",)),
        ({0: torch.zeros(2), 1: torch.zeros(2)}, ("not known",)),
    ],
    ids=["embedding", "IPAdapter", "Real-ESRGAN", "no tensors", "nothing", "list", "tensor", "numbered"],
)
def test_pickles_of_other_kinds_are_named_too(write, refusal, content, words):
    message = refusal(write(content, suffix=".pt"))
    assert [word for word in words if word not in message] == []


def test_a_file_without_tensors_is_refused(write, refusal, reading):
    assert "no named tensors" in refusal(write({}, metadata={"author": "me"}))


def test_an_unknown_kind_with_a_thousand_tensors_gets_a_short_message(write, refusal):
    assert len(refusal(write({f"layer.{i}.weight": torch.zeros(1) for i in range(1000)}))) < 300


# Damaged files.


@pytest.fixture
def whole_file(motion_tensors, write):
    """The bytes of a motion model's file."""
    return lambda suffix: Path(write(motion_tensors(), "whole", suffix)).read_bytes()


def safetensors_header(header) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1817888431\n"

DAMAGED = {
    "empty": lambda whole: b"",
    "one byte": lambda whole: whole[:1],
    "seven bytes": lambda whole: whole[:7],
    "cut off in the header": lambda whole: whole[:200],
    "cut off in the middle": lambda whole: whole[: len(whole) // 2],
    "last byte missing": lambda whole: whole[:-1],
    "zeros": lambda whole: bytes(4096),
    "web page": lambda whole: HTML,
    "Git LFS pointer": lambda whole: LFS_POINTER,
    "text": lambda whole: b"hello, this is not a model",
}


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".pt", ".bin"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused(write, refusal, whole_file, reading, damage, suffix):
    content = DAMAGED[damage](whole_file(suffix))
    message = refusal(write(content, "broken", suffix))
    assert ("is empty (0 bytes)" if damage == "empty" else "damaged") in message
    assert "ownload it again" in message


@pytest.mark.parametrize(("kept", "called"), [(".safetensors", ".ckpt"), (".ckpt", ".safetensors")])
def test_a_file_under_the_wrong_extension_is_refused(write, refusal, whole_file, reading, kept, called):
    assert "damaged" in refusal(write(whole_file(kept), "renamed", called))


@pytest.mark.parametrize(
    "header",
    [
        [],
        "text",
        {"a": {}},
        {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}},
        {"a": None},
    ],
    ids=json.dumps,
)
def test_a_nonsensical_safetensors_header_is_refused(write, refusal, reading, header):
    assert "damaged" in refusal(write(safetensors_header(header) + bytes(4)))


class RunsCode:
    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before PyTorch 1.6"])
def test_code_in_a_pickle_is_not_run(motion_tensors, write, refusal, tmp_path, legacy):
    folder = tmp_path / "made by the pickle"
    content = {"state_dict": motion_tensors(), "callback": RunsCode(folder)}
    path = write(content, suffix=".ckpt", _use_new_zipfile_serialization=not legacy)
    message = refusal(path)
    assert "could run code" in message
    assert ".safetensors" in message
    assert not folder.exists()
    torch.load(path, weights_only=False)
    assert folder.exists(), "the file is harmless: this test shows nothing"
