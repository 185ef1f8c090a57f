"""Which motion model files load, as what, and what is said about the others.

Long because it is tables: the key names of every public format, right and wrong, side by side.
"""

import ctypes
import json
import os
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

SD15 = (320, 640, 1280, 1280)
SDXL = (320, 640, 1280)
BASE_UNET = {  # what some training code saves beside the motion modules
    "conv_in.weight": torch.zeros(4, 4, 3, 3),
    "conv_in.bias": torch.zeros(4),
    "time_embedding.linear_1.weight": torch.zeros(4, 4),
    "down_blocks.0.resnets.0.conv1.weight": torch.zeros(4, 4, 3, 3),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": torch.zeros(4, 4),
    "mid_block.resnets.0.norm1.weight": torch.zeros(4),
    "conv_out.weight": torch.zeros(4, 4, 3, 3),
}


@pytest.fixture(scope="session")
def files(pack):
    return pack.submodule("motion_models.files.motion_model")


@pytest.fixture(params=["reads", "maps"])
def reading(request, host_path, monkeypatch):
    """The host's two ways to a .safetensors file; it maps files, and fills layers lazily, under dynamic VRAM."""
    if request.param == "reads":
        return
    memory_management = pytest.importorskip("comfy.memory_management")
    if not hasattr(memory_management, "aimdo_enabled"):
        pytest.skip("this release has no dynamic VRAM")
    monkeypatch.setattr(memory_management, "aimdo_enabled", True)
    monkeypatch.setattr(pytest.importorskip("comfy_aimdo.model_mmap"), "ModelMMAP", MappedFile, raising=False)


class MappedFile:
    """What the host's native library does, without the graphics card that it wants."""

    def __init__(self, path: str):
        self.content = ctypes.create_string_buffer(Path(path).read_bytes())

    def get(self) -> int:
        return ctypes.addressof(self.content)

    def get_file_handle(self) -> None:
        return None


@pytest.fixture
def write(tmp_path):
    """Write tensors (.safetensors, or any object as .ckpt) or bytes; returns the path."""

    def write(content, name: str = "motion", suffix: str = ".safetensors", **options) -> str:
        path = str(tmp_path / f"{name}{suffix}")
        if isinstance(content, bytes):
            Path(path).write_bytes(content)
        elif suffix == ".safetensors":
            save_file({key: value.contiguous() for key, value in content.items()}, path, **options)
        else:
            torch.save(content, path, **options)
        return path

    return write


def loaded(patcher) -> dict[str, torch.Tensor]:
    return {key: value.cpu() for key, value in patcher.model.state_dict().items()}


def assert_same(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert tensors.keys() == expected.keys()
    for key, value in expected.items():
        # exact, except for the dtype in which the host keeps weights on this device
        assert torch.equal(tensors[key], value.to(tensors[key].dtype)), key


# What a published file is recognised as.

KNOWN = {  # how it is built, extra tensors -> layout, version, family, beta_schedule, frames
    "AnimateDiff v1": (
        {"levels": SD15, "mid": False, "table": 24},
        ("AnimateDiff", "v1", "SD1.5", "sqrt_linear (AnimateDiff)", 24),
    ),
    "AnimateDiff v2": (
        {"levels": SD15, "table": 32},
        ("AnimateDiff", "v2", "SD1.5", "sqrt_linear (AnimateDiff)", 32),
    ),
    "AnimateDiff v3": (
        {"levels": SD15, "mid": False, "table": 32},
        ("AnimateDiff", "v3", "SD1.5", "sqrt_linear (AnimateDiff)", 32),
    ),
    "SDXL beta": (
        {"levels": SDXL, "mid": False, "table": 32},
        ("AnimateDiff", "v1", "SDXL", "linear (AnimateDiff-SDXL)", 32),
    ),
    "HotshotXL": (
        {"levels": SDXL, "mid": False, "table": 24, "layout": "HotshotXL"},
        ("HotshotXL", "v1", "SDXL", "linear (HotshotXL/default)", 24),
    ),
    "AnimateLCM": (
        {"levels": SD15, "mid": False, "table": None},
        ("AnimateLCM", "v1", "SD1.5", "lcm", 64),
    ),
    "diffusers v1": (
        {"levels": SD15, "mid": False, "table": 24, "layout": "diffusers"},
        ("AnimateDiff", "v1", "SD1.5", "sqrt_linear (AnimateDiff)", 24),
    ),
    "diffusers v2": (
        {"levels": SD15, "table": 32, "layout": "diffusers"},
        ("AnimateDiff", "v2", "SD1.5", "sqrt_linear (AnimateDiff)", 32),
    ),
    "diffusers v3": (
        {"levels": SD15, "mid": False, "table": 32, "layout": "diffusers"},
        ("AnimateDiff", "v3", "SD1.5", "sqrt_linear (AnimateDiff)", 32),
    ),
    "diffusers SDXL": (
        {"levels": SDXL, "mid": False, "table": 32, "layout": "diffusers"},
        ("AnimateDiff", "v1", "SDXL", "linear (AnimateDiff-SDXL)", 32),
    ),
    "diffusers AnimateLCM": (
        {"levels": SD15, "mid": False, "table": 64, "layout": "diffusers"},
        ("AnimateLCM", "v1", "SD1.5", "lcm", 64),
    ),
    "two levels": (
        {"levels": (32, 64), "table": 16},
        ("AnimateDiff", "v2", "custom", "sqrt_linear (AnimateDiff)", 16),
    ),
    "another width": (
        {"levels": (64, 128, 256, 256), "mid": False, "table": 32},
        ("AnimateDiff", "v3", "custom", "sqrt_linear (AnimateDiff)", 32),
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_published_layout_is_recognised(files, motion_tensors, name):
    build, expected = KNOWN[name]
    spec, _ = files.interpret("a file", motion_tensors(**build, shapes_only=True), {})
    assert (spec.layout, spec.version, spec.family, spec.beta_schedule, spec.max_frames) == expected
    assert spec.joint_group_norm == (spec.version == "v1")
    assert spec.down == tuple((c, c) for c in build["levels"])
    assert spec.mid == ((build["levels"][-1],) if build.get("mid", True) else ())
    assert spec.up == tuple((c, c, c) for c in reversed(build["levels"]))
    assert (spec.heads, spec.attention_blocks) == (8, 2)


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (
            {"levels": SD15},
            "mm_v2: AnimateDiff v2 for SD1.5, mid block, up to 32 frames, 453.2 M parameters",
        ),
        (
            {"levels": (32, 64), "mid": False, "table": 16},
            "mm_v2: AnimateDiff v1 for a UNet of 32/64 channels, no mid block, up to 16 frames, 0.6 M parameters",
        ),
    ],
)
def test_a_motion_model_describes_itself_in_one_line(files, motion_tensors, build, line):
    spec, _ = files.interpret("mm_v2", motion_tensors(**build, shapes_only=True), {})
    assert str(spec) == line


def test_diffusers_animatelcm_is_told_by_its_name_or_by_tables_that_its_mid_block_lacks(files, motion_tensors):
    tensors = motion_tensors(SD15, table=32, layout="diffusers", shapes_only=True)
    without = {
        key: value for key, value in tensors.items() if not key.startswith("mid_block") or "pos_embed" not in key
    }
    assert len(without) == len(tensors) - 1
    layouts = [
        files.interpret(name, content, {})[0].layout
        for name, content in (("adapter", tensors), ("AnimateLCM_sd15", tensors), ("adapter", without))
    ]
    assert layouts == ["AnimateDiff", "AnimateLCM", "AnimateLCM"]


def test_fancy_video_is_told_by_an_entry_that_need_not_be_a_tensor(files, motion_tensors, write):
    conv_in = {key: value for key, value in BASE_UNET.items() if key.startswith("conv_in.")}
    path = write(motion_tensors(SD15) | conv_in | {"FancyVideo": True}, suffix=".ckpt")
    spec, _ = files.interpret("fancy", *files.read_tensors(path))
    assert (spec.layout, spec.joint_group_norm) == ("FancyVideo", False)


def test_pia_has_its_own_layout_and_a_saved_base_unet_does_not_look_like_it(files, motion_tensors):
    motion = motion_tensors(SD15, mid=False, shapes_only=True)
    conv_in = {key: value for key, value in BASE_UNET.items() if key.startswith("conv_in.")}
    pia, _ = files.interpret("pia", motion | conv_in, {})
    assert (pia.layout, pia.joint_group_norm) == ("PIA", True)
    assert files.interpret("whole UNet", motion | BASE_UNET, {})[0].layout == "AnimateDiff"


# Every tensor comes through unchanged.

FORMS = {  # how the tensors are built -> how the file is wrapped
    "as published": ({}, {}),
    "HotshotXL": ({"layout": "HotshotXL", "mid": False}, {}),
    "diffusers": ({"layout": "diffusers"}, {}),
    "diffusers without mid block": ({"layout": "diffusers", "mid": False}, {}),
    "half precision": ({}, {"dtype": torch.float16}),
    "prefix module.": ({"prefix": "module."}, {}),
    "prefix unet.": ({"prefix": "unet."}, {}),
    "prefix model.diffusion_model.": ({"prefix": "model.diffusion_model."}, {}),
    "diffusers with prefix": ({"layout": "diffusers", "prefix": "motion_adapter."}, {}),
    "with base UNet": ({}, {"extra": BASE_UNET}),
    "one level": ({"levels": (64,)}, {}),
    "one module per level": ({"down": 1, "up": 2}, {}),
    "three modules per level": ({"down": 3, "up": 4, "levels": (32, 64, 64)}, {}),
    "down blocks only": ({"mid": False, "up": 0}, {}),
    "up blocks only": ({"mid": False, "down": 0}, {}),
    "one attention block": ({"attention_blocks": 1}, {}),
    "another table": ({"table": 48}, {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_tensor_is_loaded_unchanged(files, motion_tensors, write, reading, form):
    build, wrapped = FORMS[form]
    tensors = {key: value.to(wrapped.get("dtype", torch.float32)) for key, value in motion_tensors(**build).items()}
    expected = motion_tensors(**{**build, "layout": "AnimateDiff", "prefix": ""})
    if build.get("layout") == "diffusers":  # one table for both attention blocks
        expected |= {
            key.replace("blocks.0.pos_encoder", "blocks.1.pos_encoder"): value
            for key, value in expected.items()
            if key.endswith("attention_blocks.0.pos_encoder.pe")
        }
    patcher = files.load_motion_model(write(tensors | wrapped.get("extra", {})))
    expected = {key: value.to(wrapped.get("dtype", torch.float32)) for key, value in expected.items()}
    assert_same(loaded(patcher), expected)
    assert patcher.model.spec.name == "motion"
    assert not patcher.model.training
    assert not any(parameter.requires_grad for parameter in patcher.model.parameters())


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda tensors: tensors, ""),
        (lambda tensors: {"state_dict": tensors, "epoch": 0, "global_step": 10000}, "module."),
        (
            lambda tensors: {"epoch": 0, "model": {"state_dict": tensors}, "optimizer": {"state": {0: torch.ones(2)}}},
            "",
        ),
        (lambda tensors: {"motion_module": tensors, "lr": 1e-4}, ""),
        (lambda tensors: {**tensors, "animatediff_config": {"use_motion_module": True}, "version": "2"}, "unet."),
    ],
    ids=["bare", "state_dict", "model.state_dict", "motion_module", "animatediff_config"],
)
def test_checkpoints_of_training_code_are_unwrapped(files, motion_tensors, write, wrap, prefix, legacy):
    content = wrap(motion_tensors(prefix=prefix))
    path = write(content, suffix=".ckpt", _use_new_zipfile_serialization=not legacy)
    assert_same(loaded(files.load_motion_model(path)), motion_tensors())


def test_without_tables_the_sinusoids_of_64_frames_are_used(files, motion_tensors, write):
    tensors = loaded(files.load_motion_model(write(motion_tensors(table=None))))
    tables = {key: value for key, value in tensors.items() if key.endswith(".pe")}
    assert len(tables) == 2 * (2 * 2 + 1 + 2 * 3)
    for table in tables.values():
        _, frames, channels = table.shape
        assert frames == 64
        angle = 5 / 10000 ** (2 * 3 / channels)
        assert table[0, 5, 6].item() == pytest.approx(torch.tensor(angle).sin().item(), abs=1e-5)
        assert table[0, 5, 7].item() == pytest.approx(torch.tensor(angle).cos().item(), abs=1e-5)


@pytest.mark.parametrize(("metadata", "heads"), [(None, 8), ({"animatediff.heads": "4"}, 4), ({"author": "me"}, 8)])
def test_heads_come_from_the_metadata(files, motion_tensors, write, reading, metadata, heads):
    model = files.load_motion_model(write(motion_tensors(), metadata=metadata)).model
    assert model.spec.heads == heads
    assert {module.heads for module in model.modules() if hasattr(module, "heads")} == {heads}


# The host's copies of it.


@pytest.fixture
def patcher(files, motion_tensors, write):
    return files.load_motion_model(write(motion_tensors()))


@pytest.mark.parametrize("way", ["fresh_copy", "host"])
def test_a_copy_has_equal_weights_of_its_own(pack, patcher, way):
    import comfy.model_patcher

    assert isinstance(patcher, comfy.model_patcher.ModelPatcher)
    if way == "fresh_copy":
        copy = pack.submodule("host.patcher").fresh_copy(patcher)
        assert type(copy) is type(patcher)
    else:  # as the host does for its clones on another device
        function, arguments = patcher.cached_patcher_init[:2]
        copy = function(*arguments, disable_dynamic=True)
        assert type(copy) is comfy.model_patcher.ModelPatcher
    before = {key: value.clone() for key, value in loaded(patcher).items()}
    assert_same(loaded(copy), before)
    assert copy.model.spec == patcher.model.spec
    for value in copy.model.state_dict().values():
        value.zero_()
    assert_same(loaded(patcher), before)


# Wrong files.


@pytest.fixture
def refusal(files):
    """The message with which a file is refused: one that can be read, and names the file."""

    def refusal(path: str) -> str:
        with pytest.raises(files.MotionModelFileError) as caught:
            files.load_motion_model(path)
        message = str(caught.value)
        assert os.path.splitext(os.path.basename(path))[0] in message
        assert "Traceback" not in message
        assert "\n" not in message
        assert len(message) < 1500
        return message

    return refusal


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


# Motion models with something wrong in them.


def without(*beginnings: str):
    return lambda tensors: {key: value for key, value in tensors.items() if not key.startswith(beginnings)}


def with_tensor(key: str, shape: tuple[int, ...]):
    return lambda tensors: tensors | {key: torch.zeros(shape)}


DEFECTS = {  # what is done to the file -> words that must be in the message
    "tensor missing": (without(f"{DOWN}proj_out.bias"), (f"missing ({DOWN}proj_out.bias)",)),
    "first norm missing": (without(f"{DOWN}norm.weight"), (f"missing ({DOWN}norm.weight)",)),
    "last norm missing": (
        without("up_blocks.1.motion_modules.2.temporal_transformer.norm.weight"),
        ("missing (up_blocks.1.motion_modules.2.temporal_transformer.norm.weight)",),
    ),
    "attention block missing": (
        without(*(f"{DOWN}transformer_blocks.0.{part}.1." for part in ("attention_blocks", "norms"))),
        ("missing", f"{DOWN}transformer_blocks.0.attention_blocks.1.to_q.weight"),
    ),
    "unknown tensor": (
        with_tensor(f"{DOWN}transformer_blocks.0.adapter.weight", (32, 32)),
        (f"unknown ({DOWN}transformer_blocks.0.adapter.weight)",),
    ),
    "bias where there is none": (
        with_tensor(f"{DOWN}transformer_blocks.0.attention_blocks.0.to_q.bias", (32,)),
        (f"unknown ({DOWN}transformer_blocks.0.attention_blocks.0.to_q.bias)",),
    ),
    "first level missing": (without("down_blocks.0."), ("missing (down_blocks.0)",)),
    "last level missing": (without("down_blocks.1."), ("missing (down_blocks.1)",)),
    "first module missing": (without("up_blocks.1.motion_modules.0."), ("missing (up_blocks.1.motion_modules.0)",)),
    "weight of another shape": (
        with_tensor(f"{DOWN}proj_in.weight", (32, 64)),
        ("wrong shape", f"{DOWN}proj_in.weight is (32, 64), not (32, 32)"),
    ),
    "convolution instead of linear": (
        with_tensor(f"{DOWN}proj_in.weight", (32, 32, 1, 1)),
        ("wrong shape", f"{DOWN}proj_in.weight is (32, 32, 1, 1), not (32, 32)"),
    ),
    "norm of another width": (
        with_tensor(f"{DOWN}norm.weight", (64,)),
        ("wrong shape", f"{DOWN}proj_in.weight is (32, 32), not (64, 64)"),
    ),
    "norm without elements": (with_tensor(f"{DOWN}norm.weight", (0,)), ("0, 32, 64 channels", "multiple of 32")),
    "norm that is a number": (with_tensor(f"{DOWN}norm.weight", ()), ("1, 32, 64 channels", "multiple of 32")),
    "flat table": (
        with_tensor(f"{DOWN}transformer_blocks.0.attention_blocks.0.pos_encoder.pe", (32 * 32,)),
        ("wrong shape", "pos_encoder.pe is (1024,), not (1, 32, 32)"),
    ),
    "longer table": (
        with_tensor(f"{DOWN}transformer_blocks.0.attention_blocks.0.pos_encoder.pe", (1, 48, 32)),
        ("wrong shape", "pos_encoder.pe is (1, 48, 32), not (1, 32, 32)"),
    ),
    "far block": (
        with_tensor("up_blocks.999999999.motion_modules.0.temporal_transformer.norm.weight", (32,)),
        ("missing",),
    ),
    "far attention block": (
        with_tensor(f"{DOWN}transformer_blocks.0.attention_blocks.999999999.to_q.weight", (32, 32)),
        ("missing", "unknown"),
    ),
    "other names inside": (
        lambda tensors: {
            key.replace("temporal_transformer.", "temporal_transformer.inner."): v for key, v in tensors.items()
        },
        ("looks like a motion model", "missing"),
    ),
    "other blocks": (
        lambda tensors: {
            key.replace("_blocks.", "_layers.").replace("mid_block.", "middle."): v for key, v in tensors.items()
        },
        ("looks like a motion model", "missing"),
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defective_motion_model_is_refused_with_the_tensors_concerned(
    motion_tensors, write, refusal, reading, defect
):
    change, words = DEFECTS[defect]
    message = refusal(write(change(motion_tensors()), "mm_fine_tune"))
    assert "motion m" in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("heads", ["0", "-8", "eight", "7", ""])
def test_heads_that_do_not_divide_the_channels_are_refused(motion_tensors, write, refusal, heads):
    assert "heads" in refusal(write(motion_tensors(), metadata={"animatediff.heads": heads}))


def test_channels_that_the_group_norms_do_not_divide_are_refused(motion_tensors, write, refusal):
    assert "48 channels" in refusal(write(motion_tensors((48,))))


def test_a_long_list_of_tensors_is_cut(motion_tensors, write, refusal):
    tensors = {key: value for key, value in motion_tensors().items() if not key.endswith(".bias")}
    assert "more)" in refusal(write(tensors))


# Any shape.


# too_slow: before its first integer, hypothesis looks for constants in every module of the pack
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    levels=st.lists(st.integers(1, 40).map(lambda n: 32 * n), min_size=1, max_size=5).map(tuple),
    down=st.integers(0, 3),
    mid=st.booleans(),
    up=st.integers(0, 4),
    attention_blocks=st.integers(1, 3),
    table=st.none() | st.integers(1, 128),
    layout=st.sampled_from(["AnimateDiff", "diffusers", "HotshotXL"]),
    prefix=st.sampled_from(["", "module.", "model.diffusion_model."]),
)
def test_any_motion_model_is_read_as_what_it_was_built(
    files, motion_tensors, levels, down, mid, up, attention_blocks, table, layout, prefix
):
    if not down and not up:
        down = 1
    if layout == "diffusers":  # has names for two, no more and no less
        attention_blocks = 2
    shape = {"down": down, "mid": mid, "up": up, "attention_blocks": attention_blocks, "table": table}
    build = motion_tensors(levels, **shape, layout=layout, prefix=prefix, shapes_only=True)
    spec, tensors = files.interpret("any", build, {})
    assert spec.down == (tuple((c,) * down for c in levels) if down else ())
    assert spec.mid == ((levels[-1],) if mid else ())
    assert spec.up == (tuple((c,) * up for c in levels[::-1]) if up else ())
    assert spec.levels == levels
    assert spec.attention_blocks == attention_blocks
    assert spec.max_frames == (table or 64)
    assert "\n" not in str(spec)
    expected = motion_tensors(levels, **shape, shapes_only=True)
    assert {key: value.shape for key, value in tensors.items()} == {key: value.shape for key, value in expected.items()}
    assert spec.parameters == sum(value.numel() for key, value in expected.items() if not key.endswith(".pe"))
