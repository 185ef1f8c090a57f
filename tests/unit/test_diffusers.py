"""Motion models and MotionLoRAs between AnimateDiff's names and diffusers': each read by the other, with the same numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from animatediff_dev_pack import ROOT, import_script

diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install diffusers")

LEVELS = (32, 64)
FRAMES = 16
WEIGHTS = "diffusion_pytorch_model.safetensors"


def new_adapter(seed: int = 0, **settings):
    """A motion model of diffusers, with random weights."""
    torch.manual_seed(seed)
    adapter = diffusers.MotionAdapter(**{"block_out_channels": LEVELS, "motion_num_attention_heads": 4, **settings})
    with torch.no_grad():
        for _name, parameter in adapter.named_parameters():
            parameter += 0.02 * torch.randn(parameter.shape)  # diffusers begins some of them at zero
    return adapter.eval()


@pytest.fixture
def save_adapter(pack):
    return pack.submodule("motion_models.files.diffusers_folder").save_motion_adapter


@pytest.fixture
def loaded(files, tmp_path):
    """A motion model of diffusers, saved by it and loaded by us."""

    def loaded(adapter, name: str = "theirs"):
        adapter.save_pretrained(tmp_path / name)
        return files.load_motion_model(str(tmp_path / name / WEIGHTS))

    return loaded


@pytest.fixture
def one_table_tensors(motion_tensors):
    """``motion_tensors`` with one position table for both attention blocks of a module, as published files have it."""

    def build(**kind) -> dict[str, torch.Tensor]:
        tensors = motion_tensors(levels=LEVELS, **kind)
        return {
            key: tensors[key.replace("attention_blocks.1.pos_encoder", "attention_blocks.0.pos_encoder")].clone()
            for key in tensors
        }

    return build


def read_by_diffusers(folder):
    """The motion model in ``folder``; fails if diffusers finds anything missing, unknown or of another shape."""
    adapter, info = diffusers.MotionAdapter.from_pretrained(folder, output_loading_info=True, local_files_only=True)
    assert {key: list(value) for key, value in info.items() if value} == {}
    return adapter.eval()


def modules_of(adapter) -> list:
    blocks = [*adapter.down_blocks, *([adapter.mid_block] if adapter.mid_block is not None else []), *adapter.up_blocks]
    return [module for block in blocks for module in block.motion_modules]


def assert_same_numbers(pack, patcher, adapter) -> None:
    """Each of our motion modules gives what diffusers' gives, whose group norm is always joint over the frames."""
    inputs = pack.submodule("motion_models.network.call").MotionInputs()
    joint_group_norm = pack.submodule("motion_models.network.group_norm").joint_group_norm
    ours = [module for part in ("down", "mid", "up") for module in patcher.model.modules_of(part)]
    theirs = modules_of(adapter)
    assert len(ours) == len(theirs) > 8
    generator = torch.Generator().manual_seed(1)
    for module, other in zip(ours, theirs, strict=True):
        hidden = torch.randn(FRAMES, module.temporal_transformer.norm.weight.shape[0], 2, 2, generator=generator)
        with torch.no_grad(), joint_group_norm(module, frames=FRAMES):
            found = module(hidden, FRAMES, inputs)
        with torch.no_grad():
            expected = other(hidden, num_frames=FRAMES)
        assert not torch.allclose(expected, hidden)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


KINDS = {
    "v2": {},
    "no mid block": {"use_motion_mid_block": False},
    "three modules a level": {"motion_layers_per_block": (3, 1)},
    "24 frames, 8 heads": {"motion_max_seq_length": 24, "motion_num_attention_heads": 8},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_here_is_read_by_diffusers(pack, loaded, save_adapter, tmp_path, kind):
    adapter = new_adapter(**KINDS[kind])
    save_adapter(loaded(adapter), str(tmp_path / "ours"))
    again = read_by_diffusers(tmp_path / "ours")
    expected = adapter.state_dict()
    assert again.state_dict().keys() == expected.keys()
    assert [key for key, value in again.state_dict().items() if not torch.equal(value, expected[key])] == []


@pytest.mark.parametrize("name", ["hm_animatediff", "hm_animatediff_frame12", "hm3_animatediff", "hm4_animatediff"])
def test_the_motion_models_of_hello_meme(pack, loaded, name):
    """Its program reads them with MotionAdapter.from_pretrained (hellomeme/pipelines), in half precision."""
    adapter = new_adapter().half()
    patcher = loaded(adapter, name)
    assert (patcher.model.spec.layout, patcher.model.spec.max_frames) == ("AnimateDiff", 32)
    assert_same_numbers(pack, patcher, adapter.float())


def test_a_file_of_animatediff_becomes_one_that_diffusers_computes_the_same_with(
    pack, files, one_table_tensors, write, save_adapter, tmp_path
):
    """The fixture writes the published names out on its own."""
    patcher = files.load_motion_model(write(one_table_tensors()))
    save_adapter(patcher, str(tmp_path / "ours"))
    assert_same_numbers(pack, patcher, read_by_diffusers(tmp_path / "ours"))


def test_a_file_of_diffusers_becomes_one_of_animatediff(pack, files, loaded, tmp_path):
    adapter = new_adapter()
    patcher = loaded(adapter)
    path = str(tmp_path / "official.safetensors")
    pack.submodule("motion_models.files.saving").save_motion_model(patcher, path)
    names = safetensors.torch.load_file(path).keys()
    assert all(".temporal_transformer." in name for name in names)
    again = files.load_motion_model(path)
    assert again.model.spec.heads == 4
    assert_same_numbers(pack, again, adapter)


LAYOUTS = {
    "AnimateDiff": {},
    "AnimateLCM": {"table": None},
    "HotshotXL": {"layout": "HotshotXL", "table": 24, "mid": False},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_we_read_our_own_folders_as_what_they_were(
    files, one_table_tensors, write, save_adapter, tmp_path, layout, version
):
    tensors = one_table_tensors(**LAYOUTS[layout])
    before = files.load_motion_model(write(tensors, metadata={"animatediff.version": version}))
    save_adapter(before, str(tmp_path / "ours"), {"animatediff.caption": "all"})
    after = files.load_motion_model(str(tmp_path / "ours" / WEIGHTS))
    spec, again = before.model.spec, after.model.spec
    assert spec.layout == layout
    for field in ("layout", "version", "down", "mid", "up", "attention_blocks", "heads", "max_frames", "beta_schedule"):
        assert getattr(again, field) == getattr(spec, field), field
    state = after.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in before.model.state_dict().items())
    read_by_diffusers(tmp_path / "ours")


def test_a_folder_is_whole_or_not_there(pack, loaded, save_adapter, tmp_path, monkeypatch):
    patcher = loaded(new_adapter())
    target = tmp_path / "ours"

    def disk_full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(safetensors.torch, "save_file", disk_full)
        with pytest.raises(RuntimeError, match="was not saved: the disk is full"):
            save_adapter(patcher, str(target))
    assert sorted(os.listdir(tmp_path)) == ["theirs"]
    save_adapter(patcher, str(target))
    before = (target / WEIGHTS).read_bytes()
    with pytest.raises(FileExistsError, match="was not overwritten"):
        save_adapter(patcher, str(target))
    assert (target / WEIGHTS).read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["ours", "theirs"]


def test_what_diffusers_has_no_network_for_is_refused(pack, files, motion_tensors, write, save_adapter, tmp_path):
    error = files.MotionModelFileError
    tensors = motion_tensors(levels=(32, 64))
    key = next(key for key in tensors if key.endswith("attention_blocks.1.pos_encoder.pe"))
    own_table = files.load_motion_model(write({**tensors, key: tensors[key] + 1}, "own_table"))
    with pytest.raises(error, match=r"'own_table' cannot be saved for diffusers: .* position tables of their own"):
        save_adapter(own_table, str(tmp_path / "refused"))
    for name, build in {"up": {"up": 2}, "one": {"attention_blocks": 1}}.items():
        unusual = files.load_motion_model(write(motion_tensors(levels=(32, 64), **build), name))
        with pytest.raises(
            error, match=f"'{name}' cannot be saved for diffusers, whose motion models have 2 attention"
        ):
            save_adapter(unusual, str(tmp_path / "refused"))
    assert not (tmp_path / "refused").exists()


# MotionLoRAs


@pytest.fixture
def motion_lora(pack):
    return pack.submodule("lora.motion_lora")


@pytest.fixture
def lora(motion_lora, loaded):
    """A MotionLoRA with a rank of its own for each kind of layer, also outside of the attention."""
    generator = torch.Generator().manual_seed(2)
    pairs = {}
    for name, module in loaded(new_adapter(), "model").model.named_modules():
        if isinstance(module, torch.nn.Linear):
            rank = {"to_q": 2, "to_k": 3, "to_v": 4}.get(name.rpartition(".")[2], 5)
            out, width = module.weight.shape
            pairs[name] = (torch.randn(rank, width, generator=generator), torch.randn(out, rank, generator=generator))
    return motion_lora.MotionLora("turn", pairs)


def new_pipeline(adapter):
    """AnimateDiff's pipeline around a tiny UNet, as far as LoRAs need it."""
    pytest.importorskip("peft", reason="needs peft, with which diffusers loads LoRAs: pip install peft")
    unet = diffusers.UNetMotionModel(
        block_out_channels=LEVELS,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        cross_attention_dim=32,
        num_attention_heads=2,
        motion_num_attention_heads=4,
    )
    unet.load_motion_modules(adapter)
    parts = {"vae": None, "text_encoder": None, "tokenizer": None, "motion_adapter": adapter}
    return diffusers.AnimateDiffPipeline(unet=unet, scheduler=diffusers.DDIMScheduler(), **parts)


def theirs(layer: str) -> str:
    layer = layer.replace(".temporal_transformer.", ".")
    return layer.replace("attention_blocks.0", "attn1").replace("attention_blocks.1", "attn2")


@pytest.mark.parametrize("weight", [1.0, 0.6])
def test_a_motion_lora_saved_for_diffusers_changes_its_weights_as_ours_do(motion_lora, lora, tmp_path, weight, caplog):
    pipeline = new_pipeline(new_adapter())
    before = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    path = str(tmp_path / "turn.safetensors")
    motion_lora.save_motion_lora(lora, path, {"animatediff.caption": "turn"}, torch.float32, motion_lora.DIFFUSERS)
    pipeline.load_lora_weights(path, adapter_name="turn")
    changed = {name for name, module in pipeline.unet.named_modules() if hasattr(module, "lora_A")}
    assert changed == {theirs(layer) for layer in lora.pairs}
    pipeline.fuse_lora(lora_scale=weight)
    pipeline.unload_lora_weights()
    after = pipeline.unet.state_dict()
    assert after.keys() == before.keys()
    for layer, (down, up) in lora.pairs.items():
        key = f"{theirs(layer)}.weight"
        torch.testing.assert_close(after.pop(key), before[key] + weight * up @ down, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert "unexpected keys" not in caplog.text
    assert "missing keys" not in caplog.text


def test_the_published_names_are_nothing_to_diffusers(motion_lora, lora, tmp_path):
    """Why there is a choice of formats."""
    pipeline = new_pipeline(new_adapter())
    path = str(tmp_path / "turn.safetensors")
    motion_lora.save_motion_lora(lora, path, dtype=torch.float32)
    try:
        pipeline.load_lora_weights(path)
    except ValueError:
        return
    assert not any(hasattr(module, "lora_A") for module in pipeline.unet.modules())


def test_we_read_what_was_saved_for_diffusers(motion_lora, lora, tmp_path):
    path = str(tmp_path / "turn.safetensors")
    motion_lora.save_motion_lora(lora, path, dtype=torch.float32, layout=motion_lora.DIFFUSERS)
    again = motion_lora.read_motion_lora(path)
    assert again.pairs.keys() == lora.pairs.keys()
    assert all(torch.equal(a, b) for key in lora.pairs for a, b in zip(again.pairs[key], lora.pairs[key], strict=True))


def test_we_read_what_diffusers_has_saved(motion_lora, lora, tmp_path):
    """A LoRA that diffusers has loaded and saved again, with peft's configuration in its header."""
    pipeline = new_pipeline(new_adapter())
    path = str(tmp_path / "turn.safetensors")
    motion_lora.save_motion_lora(lora, path, dtype=torch.float32, layout=motion_lora.DIFFUSERS)
    pipeline.load_lora_weights(path, adapter_name="turn")
    pipeline.unet.save_lora_adapter(tmp_path / "again", adapter_name="turn")
    (saved,) = (tmp_path / "again").glob("*.safetensors")
    again = motion_lora.read_motion_lora(str(saved))
    assert again.pairs.keys() == lora.pairs.keys()
    for layer, (down, up) in lora.pairs.items():
        found_down, found_up = again.pairs[layer]
        torch.testing.assert_close(found_up @ found_down, up @ down)


# Domain adapters


@pytest.fixture
def adapter(pack, host_path):
    """A tiny UNet of diffusers in SD1.5's blocks, and a change of each of its attention layers: name there -> (down, up), name here."""
    import comfy.utils
    from animatediff_tests_tiny import SD15

    unet = diffusers.UNet2DConditionModel(block_out_channels=(32, 64, 64, 64), cross_attention_dim=32)
    generator, pairs, ours = torch.Generator().manual_seed(3), {}, {}
    for theirs, name in comfy.utils.unet_to_diffusers(SD15).items():
        layer = theirs.removesuffix(".weight")
        if ".attn" in layer and theirs.endswith(".weight"):
            out, width = unet.get_submodule(layer).weight.shape
            rank = 2 if "attn1" in layer else 3
            pairs[layer] = (torch.randn(rank, width, generator=generator), torch.randn(out, rank, generator=generator))
            ours[layer] = f"diffusion_model.{name.removesuffix('.weight')}"
    return unet, pairs, ours


@pytest.fixture
def adapter_file(pack, adapter, tmp_path):
    """That change in a file, as Save Domain Adapter writes it."""
    _, pairs, ours = adapter
    module = pack.submodule("lora.domain_adapter")
    path = str(tmp_path / "adapter.safetensors")
    module.save_lora_model(module.lora_model({ours[layer]: pairs[layer] for layer in pairs}), path, dtype=torch.float32)
    return path


def test_a_domain_adapter_has_its_strength_in_diffusers(adapter, adapter_file, caplog):
    pytest.importorskip("peft", reason="needs peft, with which diffusers loads LoRAs: pip install peft")
    unet, pairs, _ = adapter
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipeline = diffusers.StableDiffusionPipeline(
        unet=unet, scheduler=diffusers.DDIMScheduler(), requires_safety_checker=False, **parts
    )
    pipeline.load_lora_weights(adapter_file, adapter_name="look")
    pipeline.fuse_lora(lora_scale=0.6)
    pipeline.unload_lora_weights()
    after = pipeline.unet.state_dict()
    for layer, (down, up) in pairs.items():
        torch.testing.assert_close(after.pop(f"{layer}.weight"), before[f"{layer}.weight"] + 0.6 * up @ down)
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert "unexpected keys" not in caplog.text
    assert "missing keys" not in caplog.text


def test_a_domain_adapter_has_its_strength_in_kohyas_scripts(adapter, adapter_file):
    """networks/lora.py: a layer is called lora_unet_ and its name in diffusers, with underscores; its strength is alpha / rank."""
    unet, pairs, _ = adapter
    names = {f"lora_unet_{name.replace('.', '_')}": name for name, _ in unet.named_modules()}
    tensors = safetensors.torch.load_file(adapter_file)
    layers = {key.partition(".")[0] for key in tensors}
    assert {names[layer] for layer in layers} == pairs.keys()
    for layer in layers:
        down, up, alpha = (tensors.pop(f"{layer}.{part}") for part in ("lora_down.weight", "lora_up.weight", "alpha"))
        expected_down, expected_up = pairs[names[layer]]
        torch.testing.assert_close(up @ down * (alpha / len(down)), expected_up @ expected_down)
    assert not tensors


def test_names_of_other_networks_stay_as_they_are(pack):
    named = pack.submodule("lora.kohya").named_as_kohya
    block = "transformer_blocks.0.attn1.to_q"
    sdxl = ("input_blocks.4.1", "middle_block.1", "output_blocks.0.1")
    for blocks, prefix in (
        (sdxl, "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"),
        (("input_blocks.1.1", "output_blocks.0.1"), None),  # one level
        (("input_blocks.1.1", "input_blocks.1.0"), None),  # a residual block
        (("input_blocks.3.1",), None),  # one residual block a level
    ):
        tensors = {
            f"diffusion_model.{place}.{block}.lora_{half}.weight": torch.zeros(2, 2)
            for place in blocks
            for half in ("up", "down")
        }
        found = named(tensors)
        assert (found is tensors) == (prefix is None)
        assert prefix is None or f"{prefix}.alpha" in found


# The nodes and the command


def test_the_save_nodes_have_the_choice(pack, loaded, lora, folder):
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes.lora").NODES}
    base = Path(folder("animatediff_models"))
    inputs = {"filename_prefix": "for_diffusers/motion", "dtype": "float32", "format": "diffusers"}
    try:
        for number in (1, 2):
            nodes["AnimateDiffSaveMotionModel"].execute(motion_model=loaded(new_adapter()), **inputs)
            read_by_diffusers(base / "for_diffusers" / f"motion_0000{number}_")
        config = json.loads((base / "for_diffusers" / "motion_00001_" / "config.json").read_text())
        assert config["_class_name"] == "MotionAdapter"
    finally:
        import shutil

        shutil.rmtree(base / "for_diffusers", ignore_errors=True)
    applied = pack.submodule("lora.motion_lora").AppliedMotionLora(lora)
    loras = Path(folder("animatediff_motion_lora"))
    nodes["AnimateDiffSaveMotionLoRA"].execute(
        motion_lora=(applied,), filename_prefix="turn", dtype="float16", format="diffusers"
    )
    assert all(
        key.startswith("unet.") and key.endswith((".lora_A.weight", ".lora_B.weight"))
        for key in safetensors.torch.load_file(loras / "turn_00001_.safetensors")
    )


@pytest.fixture(scope="module")
def convert(host_path):
    return import_script("animatediff_dev_convert", ROOT / "dev" / "convert.py").convert


def test_the_command_converts_both_ways(pack, convert, lora, motion_lora, tmp_path):
    adapter = new_adapter()
    adapter.save_pretrained(tmp_path / "theirs")
    official, again = str(tmp_path / "official.safetensors"), str(tmp_path / "again")
    assert "up to 32 frames" in convert(pack, str(tmp_path / "theirs" / WEIGHTS), official, "AnimateDiff")
    convert(pack, official, again, "diffusers")
    expected = adapter.state_dict()
    found = read_by_diffusers(again).state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())

    one, other, third = (str(tmp_path / f"{name}.safetensors") for name in ("one", "other", "third"))
    motion_lora.save_motion_lora(lora, one)
    assert convert(pack, one, other, "diffusers") == f"MotionLoRA of rank 5, {len(lora.pairs)} layers"
    convert(pack, other, third, "AnimateDiff")
    first, last = safetensors.torch.load_file(one), safetensors.torch.load_file(third)
    assert first.keys() == last.keys()
    assert all(torch.equal(value, last[key]) and value.dtype == torch.float16 for key, value in first.items())
