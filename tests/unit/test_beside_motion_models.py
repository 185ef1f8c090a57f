"""What stands beside the tensors: config.json, the other parts of a file, averaged and shared weights, scales."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import safetensors.torch
import torch

LEVELS = (32, 64)


def adapter(**settings):
    """A motion model of diffusers, with random weights."""
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install diffusers")
    torch.manual_seed(0)
    return diffusers.MotionAdapter(block_out_channels=LEVELS, **settings)


WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def saved(tmp_path):
    """Save a motion model of diffusers as diffusers does, into a folder of its own."""

    def save(settings: dict | None = None, **saving) -> Path:
        folder = tmp_path / f"model {len(list(tmp_path.iterdir()))}"
        adapter(**(settings or {})).save_pretrained(folder, **saving)
        return folder

    return save


def state(patcher) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in patcher.model.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first
    assert first.keys() == second.keys()
    assert [key for key, value in first.items() if not torch.equal(value, second[key])] == []


# config.json


def test_heads_are_read_from_the_config_of_diffusers(pack, files, saved):
    """And give what diffusers gives, whose group norm is always joint over the frames."""
    theirs = adapter(motion_num_attention_heads=4).eval()
    patcher = files.load_motion_model(str(saved({"motion_num_attention_heads": 4}) / WEIGHTS))
    assert patcher.model.spec.heads == 4
    inputs = pack.submodule("motion_models.network.call").MotionInputs()
    joint_group_norm = pack.submodule("motion_models.network.group_norm").joint_group_norm
    hidden = torch.randn(16, LEVELS[0], 4, 4)
    ours = patcher.model.down_blocks[0].motion_modules[0].float()
    with torch.no_grad(), joint_group_norm(ours, frames=16):
        found = ours(hidden, 16, inputs)
    with torch.no_grad():
        expected = theirs.down_blocks[0].motion_modules[0](hidden, num_frames=16)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_heads_of_a_whole_unet_of_diffusers(files, tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install diffusers")
    diffusers.UNetMotionModel(
        block_out_channels=LEVELS,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        cross_attention_dim=32,
        num_attention_heads=2,
        motion_num_attention_heads=4,
    ).save_pretrained(tmp_path)
    spec = files.load_motion_model(str(tmp_path / WEIGHTS)).model.spec
    assert (spec.heads, spec.layout) == (4, "AnimateDiff")


def test_a_copy_that_the_host_makes_has_the_same_heads(pack, files, saved):
    patcher = files.load_motion_model(str(saved({"motion_num_attention_heads": 4}) / WEIGHTS))
    function, arguments = pack.submodule("host.patcher").reload_of(patcher)
    assert function(*arguments).model.spec.heads == 4


CONFIG = {"_class_name": "MotionAdapter", "block_out_channels": [32, 64], "motion_num_attention_heads": 4}


@pytest.mark.parametrize(
    ("build", "config", "metadata", "heads"),
    [
        ({"layout": "diffusers"}, CONFIG, None, 4),
        ({"layout": "diffusers"}, CONFIG, {"animatediff.heads": "2"}, 2),
        ({"layout": "diffusers"}, {**CONFIG, "motion_num_attention_heads": [4, 4]}, None, 4),
        ({"layout": "diffusers"}, {**CONFIG, "block_out_channels": [320, 640]}, None, 8),
        ({"layout": "diffusers"}, {**CONFIG, "_class_name": "AutoencoderKL"}, None, 8),
        ({"layout": "diffusers"}, {"_class_name": "MotionAdapter", "block_out_channels": [32, 64]}, None, 8),
        ({"layout": "diffusers"}, {**CONFIG, "_class_name": ["MotionAdapter"]}, None, 8),
        ({}, CONFIG, None, 8),
        ({}, "no JSON", None, 8),
    ],
    ids=[
        "diffusers",
        "metadata wins",
        "per level",
        "of another model",
        "of another kind",
        "of no kind",
        "silent",
        "other names",
        "other names, broken",
    ],
)
def test_only_a_config_that_belongs_to_the_file_counts(
    files, motion_tensors, write, tmp_path, build, config, metadata, heads
):
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    assert files.load_motion_model(write(motion_tensors(**build), metadata=metadata)).model.spec.heads == heads


BROKEN = {
    "no JSON": "<!DOCTYPE html>",
    "nothing": "",
    "a list": "[4]",
    "deep": "[" * 100_000,
    "five thousand digits": '{"_class_name": "MotionAdapter", "motion_num_attention_heads": ' + "9" * 5000 + "}",
    "large": json.dumps({**CONFIG, "filling": "x" * (1 << 20)}),
    "no text": b"\xff\xfe\x00",
    **{
        f"heads {heads!r}": json.dumps({**CONFIG, "motion_num_attention_heads": heads})
        for heads in (0, -8, 4.5, "4", True, {}, [4, "4"])
    },
    "channels": json.dumps({**CONFIG, "block_out_channels": "wide"}),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_config_is_told(motion_tensors, write, refusal, tmp_path, kind):
    content = BROKEN[kind]
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refusal(write(motion_tensors(layout="diffusers")))
    assert message.startswith(
        "The config.json beside 'motion.safetensors', which tells its number of attention heads, "
    )
    assert "Download it again" in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"motion_num_attention_heads": (4, 8)}, "4 and 8 heads"),
        ({"motion_norm_num_groups": 16}, "16 groups in its norms"),
    ],
)
def test_what_cannot_be_run_is_refused(saved, refusal, settings, words):
    assert words in refusal(str(saved(settings) / WEIGHTS))


# Parts


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_any_part_of_a_file_stands_for_all_of_them(files, saved, safe):
    folder = saved({"motion_num_attention_heads": 4}, max_shard_size="300KB", safe_serialization=safe)
    parts = sorted(str(path) for path in folder.glob("*-of-*"))
    assert len(parts) > 5
    whole = files.load_motion_model(str(saved({"motion_num_attention_heads": 4}) / WEIGHTS))
    for part in (parts[0], parts[3], parts[-1]):
        patcher = files.load_motion_model(part)
        assert_equal(state(patcher), state(whole))
        assert patcher.model.spec.heads == 4


def test_missing_parts_are_named(saved, refusal):
    parts = sorted(saved(max_shard_size="300KB").glob("*-of-*"))
    for part in (parts[1], parts[4]):
        part.unlink()
    message = refusal(str(parts[0]))
    assert f"is one part of {len(parts)}, and these parts are not in its folder: 2, 5." in message
    assert "one folder" in message


def test_a_part_of_ten_thousand_is_refused_at_once(motion_tensors, write, refusal):
    message = refusal(write(motion_tensors(), "model-00001-of-99999"))
    assert "2, 3, 4, 5, 6, 7, 8, 9 and 99990 more" in message


def test_a_broken_index_is_told(saved, refusal):
    folder = saved(max_shard_size="300KB")
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text("<html>")
    message = refusal(str(next(folder.glob("*-00001-of-*"))))
    assert "the index of the parts" in message
    assert "Download it again" in message


# Shared tensors, which safetensors stores once


def with_shared_table():
    tied = adapter()
    first, second = (module.transformer_blocks[0].pos_embed for module in tied.down_blocks[0].motion_modules)
    first.pe.mul_(3)  # no longer what would be made where there is none
    second.pe = first.pe
    return tied


def in_parts(model, folder: Path) -> Path:
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub: pip install huggingface_hub")
    hub.save_torch_model(model, str(folder), max_shard_size="400KB")
    return next(folder.glob("*-00002-of-*"))


def in_one(model, folder: Path) -> Path:
    safetensors.torch.save_model(model, str(folder / "tied.safetensors"))
    return folder / "tied.safetensors"


@pytest.mark.parametrize("save", [in_one, in_parts])
def test_shared_tensors_are_found_under_all_their_names(files, tmp_path, save):
    tied = with_shared_table()
    found = state(files.load_motion_model(str(save(tied, tmp_path))))
    expected = tied.down_blocks[0].motion_modules[1].transformer_blocks[0].pos_embed.pe
    for block in (0, 1):
        name = f"down_blocks.0.motion_modules.1.temporal_transformer.transformer_blocks.0.attention_blocks.{block}"
        assert torch.equal(found[f"{name}.pos_encoder.pe"], expected)


# Averaged weights (EMA) beside the ones they were averaged from


def prefixed(prefix: str, tensors: dict) -> dict:
    return {f"{prefix}{key}": value for key, value in tensors.items()}


TWICE = {  # weights, their average -> a file's content, its suffix
    "state_dict, ema": (lambda new, ema: {"ema": ema, "state_dict": new}, ".ckpt"),
    "state_dict, state_dict_ema": (lambda new, ema: {"state_dict": new, "state_dict_ema": ema}, ".ckpt"),
    "model, model_ema": (lambda new, ema: {"model": new, "model_ema": ema, "step": 3}, ".ckpt"),
    "ema_model.module, model.module": (
        lambda new, ema: {"ema_model": prefixed("module.", ema), "model": prefixed("module.", new)},
        ".ckpt",
    ),
    "ema. and none": (lambda new, ema: {**prefixed("ema.", ema), **new}, ".safetensors"),
    "two names for one": (lambda new, ema: {**prefixed("model.", new), **prefixed("unet.", ema)}, ".safetensors"),
}


@pytest.mark.parametrize("form", TWICE)
def test_of_weights_and_their_average_the_weights_are_taken_and_the_log_says_so(
    files, motion_tensors, write, caplog, form
):
    make, suffix = TWICE[form]
    new = motion_tensors()
    path = write(make(new, {key: value + 1 for key, value in new.items()}), suffix=suffix)
    with caplog.at_level(logging.INFO):
        patcher = files.load_motion_model(path)
    assert_equal(state(patcher), {key: value.float() for key, value in new.items()})
    (line,) = [record.getMessage() for record in caplog.records if "more than once" in record.getMessage()]
    assert f"'motion{suffix}'" in line
    assert re.search(r"once: .*is used, .*(ema|unet).* is not\.", line)


@pytest.mark.parametrize("prefix", ["ema.", "model_ema.", "ema_model.module.", "state_dict_ema."])
def test_weights_that_are_there_only_averaged_are_loaded(files, motion_tensors, write, prefix):
    assert_equal(state(files.load_motion_model(write(motion_tensors(prefix=prefix)))), motion_tensors())


# Quantised weights


def quantised(change) -> dict[str, torch.Tensor]:
    """The content of a file in which each matrix of a motion model becomes ``change(layer's name, weight)``."""

    def build(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        content = {}
        for key, value in tensors.items():
            matrix = value.ndim == 2
            content |= change(key.removesuffix(".weight"), value) if matrix else {key: value}
        return content

    return build


def scaled_float8(scale_name: str, by_row: bool, **more: torch.Tensor):
    def change(layer: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        scale = (weight.abs().amax(1, keepdim=True) if by_row else weight.abs().amax()) / 448
        content = {f"{layer}.weight": (weight / scale).to(torch.float8_e4m3fn), f"{layer}.{scale_name}": scale}
        return content | {f"{layer}.{name}": value.clone() for name, value in more.items()}

    return change


COMFY_QUANT = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
ONE = torch.ones(())
SCALED = {
    "scale_weight": scaled_float8("scale_weight", False, scale_input=ONE),
    "weight_scale": scaled_float8("weight_scale", False, input_scale=ONE, comfy_quant=COMFY_QUANT),
    "a scale for each row": scaled_float8("weight_scale", True),
}


@pytest.mark.parametrize("form", SCALED)
@pytest.mark.parametrize("layout", ["AnimateDiff", "diffusers"])
def test_scaled_float8_weights_are_brought_back(files, motion_tensors, write, form, layout):
    content = quantised(SCALED[form])(motion_tensors(layout=layout))
    content["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    found = state(files.load_motion_model(write(content)))
    expected = state(files.load_motion_model(write(motion_tensors(layout=layout))))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        tolerance = 0.07 if value.ndim == 2 else 0  # float8 has 3 bits behind the leading one
        torch.testing.assert_close(found[key], value, rtol=tolerance, atol=tolerance * 0.1)


def test_scaled_float8_weights_are_what_the_host_makes_of_them(files, motion_tensors, write):
    quant_ops = pytest.importorskip("comfy.quant_ops", reason="this release has no quantised tensors")
    if not hasattr(quant_ops, "TensorCoreFP8E4M3Layout"):
        pytest.skip("this release has no TensorCoreFP8E4M3Layout")
    layout = "TensorCoreFP8E4M3Layout"
    expected = {}

    def change(layer: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        tensor = quant_ops.QuantizedTensor.from_float(weight, layout, scale="recalculate")
        expected[f"{layer}.weight"] = tensor.dequantize()
        return tensor.state_dict(f"{layer}.weight")

    found = state(files.load_motion_model(write(quantised(change)(motion_tensors()))))
    assert len(expected) > 50
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value.float(), rtol=1e-6, atol=1e-6)


BYTES = torch.zeros(16, dtype=torch.uint8)
# What the tools of that name wrote into files: bitsandbytes 0.50.2, optimum-quanto 0.2.7, torchao 0.18.0, ComfyUI 0.30.
QUANTISED = {
    "bitsandbytes, nf4": (
        ("weight", "weight.absmax", "weight.quant_map", "weight.nested_absmax", "weight.quant_state.bitsandbytes__nf4"),
        "bitsandbytes",
    ),
    "bitsandbytes, int8": (("weight", "SCB", "weight_format"), "bitsandbytes"),
    "quanto, int8": (("weight._data", "weight._scale", "input_scale", "output_scale"), "Quanto"),
    "quanto, int4": (("weight._data._data", "weight._scale", "weight._shift", "input_scale"), "Quanto"),
    "torchao, int8": (("_weight_qdata", "_weight_scale", "_weight_zero_point"), "torchao"),
    "GPTQ": (("qweight", "qzeros", "scales", "g_idx"), "GPTQ"),
    "NVFP4": (("weight", "weight_scale", "weight_scale_2", "comfy_quant"), "ComfyUI (NVFP4)"),
    "ComfyUI, int8": (("weight", "weight_scale", "comfy_quant"), "ComfyUI"),
    "something else": (("weight", "weight_scale"), "a tool that this version does not know"),
}


@pytest.mark.parametrize("layout", ["AnimateDiff", "diffusers"])
@pytest.mark.parametrize("kind", QUANTISED)
def test_other_quantised_weights_are_refused_by_the_name_of_their_tool(motion_tensors, write, refusal, kind, layout):
    names, tool = QUANTISED[kind]
    change = quantised(lambda layer, weight: {f"{layer}.{name}": BYTES.clone() for name in names})
    message = refusal(write(change(motion_tensors(layout=layout))))
    assert f"quantised by {tool}" in message
    assert "float16, bfloat16 or float32" in message


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_gguf_file_under_another_extension_is_named(write, refusal, suffix):
    assert "quantised by GGUF tools" in refusal(write(b"GGUF\x03\x00\x00\x00" + bytes(1000), suffix=suffix))


def test_a_pickle_of_quantised_tensors_is_named(write, refusal, monkeypatch):
    """What torchao's tensors look like to PyTorch when torchao is not installed."""
    module = ModuleType("torchao.quantization")
    module.Int8Tensor = type("Int8Tensor", (), {"__module__": "torchao.quantization"})
    monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.quantization", module)
    path = write({"weight": module.Int8Tensor()}, suffix=".ckpt")
    assert "quantised by torchao" in refusal(path)
