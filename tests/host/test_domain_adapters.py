"""Domain adapters: LoRAs of the UNet's own layers, through the node; expected weights are computed by hand.

Names, headers and changes were compared once with files that peft 0.21.2, diffusers 0.42.1 and lycoris-lora 4.1.3 wrote
for a small UNet, and with the weights that they computed with (November 2026).
"""

from __future__ import annotations

import json
import logging
import math
import os
import re

import pytest
import safetensors.torch
import torch


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def spatial_layers(model) -> dict[str, tuple[int, int]]:
    """Names of the attention projections of a MODEL's UNet, with their shapes."""
    return {
        name: tuple(layer.weight.shape)
        for name, layer in model.model.named_modules()
        if re.search(r"attn[12]\.to_(q|k|v|out\.0)$", name)
    }


@pytest.fixture
def adapter_pairs():
    def make(model):
        generator = torch.Generator().manual_seed(11)
        return {
            name: (torch.randn(2, width, generator=generator) * width**-0.5, torch.randn(out, 2, generator=generator))
            for name, (out, width) in spatial_layers(model).items()
        }

    return make


@pytest.fixture
def merged_model(new_model):
    """A MODEL with pairs added to its weights by hand."""

    def make(layout, pairs, scale):
        model = new_model(layout)
        for name, (down, up) in pairs.items():
            model.model.get_submodule(name).weight.data += scale * up @ down
        return model

    return make


@pytest.mark.parametrize("layout", ["SD1.5", "SDXL", "unusual"])
def test_a_saved_domain_adapter_loads_here_and_in_the_hosts_loader(
    pack, lora_nodes, new_model, layouts, adapter_pairs, merged_model, sample, folder, layout
):
    import nodes as host_nodes

    files = folder("loras")
    model = new_model(layouts[layout])
    pairs = adapter_pairs(model)
    lora = pack.submodule("lora.domain_adapter").lora_model(pairs)
    lora_nodes.SaveDomainAdapter.execute(lora=lora, filename_prefix="adapter", dtype="float32")
    assert "adapter_00001_.safetensors" in os.listdir(files)
    expected = sample(merged_model(layouts[layout], pairs, 0.6))
    ours = lora_nodes.LoadDomainAdapter.execute(model=model, lora_name="adapter_00001_.safetensors", scale=0.6).args[0]
    assert relative(sample(ours), expected) < 1e-5
    assert relative(sample(model), expected) > 1e-2
    hosts = host_nodes.LoraLoaderModelOnly().load_lora_model_only(
        new_model(layouts[layout]), "adapter_00001_.safetensors", 0.6
    )
    assert relative(sample(hosts[0]), expected) < 1e-5
    assert (
        lora_nodes.LoadDomainAdapter.execute(model=model, lora_name="adapter_00001_.safetensors", scale=0.0).args[0]
        is model
    )


NAMINGS = {
    "the published v3 adapter": lambda name: (
        f"{name.removesuffix('.0').replace('.to_', '.processor.to_')}_lora",
        "down",
        "up",
    ),
    "below module.": lambda name: (
        f"module.{name.removesuffix('.0').replace('.to_', '.processor.to_')}_lora",
        "down",
        "up",
    ),
    "diffusers": lambda name: (f"unet.{name}.lora", "down", "up"),
    "peft": lambda name: (f"unet.{name}", "lora_A", "lora_B"),
    "kohya": lambda name: (f"lora_unet_{name.replace('.', '_')}", "lora_down", "lora_up"),
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_loads_domain_adapters_of_other_writers(
    lora_nodes, new_model, layouts, adapter_pairs, merged_model, sample, folder, naming
):
    import comfy.utils

    model = new_model()
    pairs = adapter_pairs(model)
    tensors = {}
    for theirs, ours in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items():
        pair = pairs.get(f"diffusion_model.{ours.removesuffix('.weight')}")
        if pair is not None:
            name, down, up = NAMINGS[naming](theirs.removesuffix(".weight"))
            tensors |= {f"{name}.{down}.weight": pair[0], f"{name}.{up}.weight": pair[1]}
    assert len(tensors) == 2 * len(pairs)
    safetensors.torch.save_file(tensors, os.path.join(folder("loras"), "adapter.safetensors"))
    result = lora_nodes.LoadDomainAdapter.execute(model=model, lora_name="adapter.safetensors", scale=1.0).args[0]
    assert relative(sample(result), sample(merged_model(layouts["SD1.5"], pairs, 1.0))) < 1e-5


def test_a_wrong_domain_adapter_is_refused(
    pack, lora_nodes, new_model, new_motion, layouts, adapter_pairs, new_lora_file, folder
):
    adapters = pack.submodule("lora.domain_adapter")
    error = pack.submodule("lora.error").LoraFileError
    files = folder("loras")

    def save(pairs, path):
        adapters.save_lora_model(adapters.lora_model(pairs), path)

    def load(model, name):
        return lora_nodes.LoadDomainAdapter.execute(model=model, lora_name=name, scale=1.0)

    name = new_lora_file(new_motion())
    os.rename(os.path.join(folder("animatediff_motion_lora"), name), os.path.join(files, "motion.safetensors"))
    with pytest.raises(error, match=r"is no domain adapter\. It is a MotionLoRA.*Load AnimateDiff LoRA"):
        load(new_model(), "motion.safetensors")

    pairs = {name.replace("diffusion_model", "other_model"): pair for name, pair in adapter_pairs(new_model()).items()}
    save(pairs, os.path.join(files, "foreign.safetensors"))
    with pytest.raises(error, match=r"Nothing of 'foreign\.safetensors' applies to this checkpoint \(BaseModel\)"):
        load(new_model(), "foreign.safetensors")

    save(adapter_pairs(new_model(layouts["SDXL"])), os.path.join(files, "sdxl.safetensors"))
    with pytest.raises(error, match=r"'sdxl\.safetensors' is for another checkpoint family: \d+ of \d+ layers"):
        load(new_model(), "sdxl.safetensors")


# --- files of other programs ---


@pytest.fixture
def unet(new_model):
    """A MODEL, and diffusers' name of each projection of its spatial attention -> the weight's name in the MODEL."""
    import comfy.utils

    model = new_model()
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    layers = {
        theirs.removesuffix(".weight"): f"diffusion_model.{ours}"
        for theirs, ours in names.items()
        if re.search(r"attn[12]\.to_(q|k|v|out\.0)\.weight$", theirs)
    }
    return model, layers


@pytest.fixture
def load(lora_nodes, folder):
    """Write an adapter's tensors to a file and load it; returns the MODEL."""

    def write_and_load(model, tensors, scale=1.0, header=None, config=None):
        files = folder("loras")
        tensors = {key: value.clone().contiguous() for key, value in tensors.items()}
        safetensors.torch.save_file(tensors, os.path.join(files, "adapter.safetensors"), header)
        if config is not None:
            with open(os.path.join(files, "adapter_config.json"), "w", encoding="utf-8") as file:
                json.dump(config, file)
        return lora_nodes.LoadDomainAdapter.execute(model=model, lora_name="adapter.safetensors", scale=scale).args[0]

    return write_and_load


@pytest.fixture
def error(pack):
    return pack.submodule("lora.error").LoraFileError


def change_of(model, key: str) -> torch.Tensor:
    """What a MODEL's patches add to a weight."""
    import comfy.lora

    weight = model.model.state_dict()[key]
    return comfy.lora.calculate_weight(model.patches[key], weight.clone(), key) - weight


def pair(weight: torch.Tensor, rank: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(weight.numel())
    out, width = weight.shape
    return torch.randn(rank, width, generator=generator) * 0.2, torch.randn(out, rank, generator=generator) * 0.2


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def lengths(weight: torch.Tensor, dim: int) -> torch.Tensor:
    return weight.norm(dim=dim, keepdim=True)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("writer", ["save_lora_adapter", "save_lora_weights", "peft"])
def test_peft_adapter_has_the_strength_of_its_configuration(unet, load, writer, rslora):
    model, layers = unet
    weights = model.model.state_dict()
    config = {
        **{
            "peft_type": "LORA",
            "r": 4,
            "lora_alpha": 6,
            "rank_pattern": {"attn1.to_k": 9},
            "alpha_pattern": {"to_v": 1.5},
        },
        "use_rslora": rslora,
    }
    prefix = {"save_lora_adapter": "", "save_lora_weights": "unet.", "peft": "base_model.model."}[writer]
    tensors, expected = {}, {}
    for layer, key in layers.items():
        rank = 9 if layer.endswith("attn1.to_k") else 4
        down, up = pair(weights[key], rank)
        tensors |= {f"{prefix}{layer}.lora_A.weight": down, f"{prefix}{layer}.lora_B.weight": up}
        alpha = 1.5 if layer.endswith("to_v") else 6
        expected[key] = alpha / (math.sqrt(rank) if rslora else rank) * up @ down
    header = {prefix + name: value for name, value in config.items()}
    beside = {"config": config} if writer == "peft" else {"header": {"lora_adapter_metadata": json.dumps(header)}}
    result = load(model, tensors, 0.5, **beside)
    assert result.patches.keys() == expected.keys()
    for key, change in expected.items():
        assert_close(change_of(result, key), 0.5 * change)


# DoRA: name of the learned lengths, over which axis of the weight they are, and how they are laid out
DORA = {
    "peft": ("lora_magnitude_vector", 1, lambda m: m.flatten()),
    "peft 0.10": ("lora_magnitude_vector.weight", 1, lambda m: m.flatten()),
    "LyCORIS": ("dora_scale", 1, lambda m: m),
    "LyCORIS, wd_on_output=False": ("dora_scale", 0, lambda m: m),
}


@pytest.mark.parametrize("scale", [1.0, 0.5, -1.0])
@pytest.mark.parametrize("writer", DORA)
def test_dora_is_applied_whole(unet, load, caplog, writer, scale):
    name, dim, layout = DORA[writer]
    model, layers = unet
    weights = model.model.state_dict()
    tensors, expected = {}, {}
    for layer, key in layers.items():
        before = weights[key]
        down, up = pair(before)
        magnitude = lengths(before, dim) * 1.3
        tensors |= {f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up}
        tensors[f"unet.{layer}.{name}"] = layout(magnitude)
        after = before + 2 * up @ down  # alpha / rank
        expected[key] = scale * (magnitude * after / lengths(after, dim) - before)
    header = {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.lora_alpha": 8, "unet.use_dora": True})}
    result = load(model, tensors, scale, header)
    for key, change in expected.items():
        assert_close(change_of(result, key), change)
    assert "left out" not in caplog.text


def test_dora_of_loha(unet, load):
    """Layers changed in other ways can have lengths too (LyCORIS, dora_wd)."""
    model, layers = unet
    layer, key = next(iter(layers.items()))
    before = model.model.state_dict()[key]
    (b, a), (d, c) = pair(before), pair(before * 2)
    magnitude = lengths(before, 1) * 0.8
    name = f"lora_unet_{layer.replace('.', '_')}"
    parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d, "dora_scale": magnitude}
    result = load(
        model, {f"{name}.{part}": value for part, value in parts.items()} | {f"{name}.alpha": torch.tensor(2.0)}
    )
    after = before + 0.5 * (a @ b) * (c @ d)
    assert_close(change_of(result, key), magnitude * after / lengths(after, 1) - before)


def test_a_dora_in_a_run_has_the_weights_computed_by_hand(new_model, unet, load, sample):
    model, layers = unet
    by_hand = new_model()
    weights = by_hand.model.state_dict()
    tensors = {}
    for layer, key in layers.items():
        down, up = pair(weights[key])
        tensors |= {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
        tensors[f"{layer}.lora_magnitude_vector"] = lengths(weights[key], 1).flatten() * 1.2
        after = weights[key] + up @ down
        weights[key].copy_(1.2 * lengths(weights[key], 1) * after / lengths(after, 1))
    result, expected, plain = sample(load(model, tensors)), sample(by_hand), sample(new_model())
    assert relative(plain, expected) > 1e-2
    assert relative(result, expected) < 1e-5


def test_trained_biases_are_added(unet, load):
    """peft's lora_bias: the bias of lora_B, at the same strength."""
    model, layers = unet
    weights = model.model.state_dict()
    tensors, expected = {}, {}
    for layer, key in layers.items():
        if layer.endswith("to_out.0"):
            down, up = pair(weights[key])
            bias = up.sum(1)
            tensors |= {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up, f"{layer}.lora_B.bias": bias}
            expected |= {key: 2 * up @ down, key.replace(".weight", ".bias"): 2 * bias}
    header = {"lora_adapter_metadata": json.dumps({"r": 4, "lora_alpha": 8, "lora_bias": True})}
    result = load(model, tensors, 0.5, header)
    assert result.patches.keys() == expected.keys()
    for key, change in expected.items():
        assert_close(change_of(result, key), 0.5 * change)


def plain(layers, weights, prefix="") -> dict[str, torch.Tensor]:
    tensors = {}
    for layer, key in layers.items():
        down, up = pair(weights[key])
        tensors |= {f"{prefix}{layer}.lora_A.weight": down, f"{prefix}{layer}.lora_B.weight": up}
    return tensors


# kind: (more tensors of a layer; what the message says)
REFUSED = {
    "biases of a layer that has none": ({"lora_B.bias": 1}, "changes 1 weights that this checkpoint does not have"),
    "trained biases, peft's bias": ({"base_layer.bias": 1}, r"by LoRA with trained biases \(peft's option bias\)"),
    "a whole model": ({"base_layer.weight": 2}, "holds a whole model with LoRA layers in it"),
    "IA3": ({"ia3_l": 2}, "by IA3"),
    "OFT and BOFT of LyCORIS": ({"oft_blocks": 3}, "by OFT or BOFT"),
    "KaSA": ({"lora_diag": 1}, "by KaSA"),
    "whole layers": ({"weight": 2}, "holds something of a kind that this version does not know"),
    "what nobody knows": ({"lora_Z.weight": 2}, "holds something of a kind that this version does not know"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_applied_in_part_is_refused(unet, load, error, kind):
    parts, message = REFUSED[kind]
    model, layers = unet
    layer = next(layer for layer in layers if layer.endswith("attn1.to_q"))
    out, width = model.model.state_dict()[layers[layer]].shape
    shapes = {1: (out,), 2: (out, width), 3: (2, out // 2, out // 2)}
    tensors = plain(layers, model.model.state_dict())
    tensors |= {f"{layer}.{part}": torch.ones(shapes[ndim]) for part, ndim in parts.items()}
    with pytest.raises(error, match=rf"'adapter\.safetensors' .*{message}"):
        load(model, tensors)
    assert not model.patches


def test_a_motion_model_is_told_where_it_belongs(unet, load, error):
    tensors = {"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": torch.ones(8)}
    with pytest.raises(
        error, match=r"is no domain adapter\. It is a motion model: put it in .*AnimateDiff: Load Model"
    ):
        load(unet[0], tensors)


@pytest.mark.parametrize(
    ("node", "inputs"), [("SaveMotionLora", {"motion_lora": ()}), ("SaveDomainAdapter", {"lora": {}})]
)
def test_nothing_is_not_saved(lora_nodes, node, inputs):
    with pytest.raises(ValueError, match=rf"The input {next(iter(inputs))} of Save .* holds no .* Connect Train"):
        getattr(lora_nodes, node).execute(**inputs, filename_prefix="empty", dtype="float16")


def test_layers_that_the_checkpoint_lacks_are_left_out_with_their_number(unet, load, caplog):
    model, layers = unet
    tensors = plain(layers, model.model.state_dict())
    absent = "down_blocks.7.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors |= {f"{absent}.lora_A.weight": torch.ones(4, 8), f"{absent}.lora_B.weight": torch.ones(8, 4)}
    result = load(model, tensors)
    assert result.patches.keys() == set(layers.values())
    assert f"2 of {len(tensors)} tensors of the domain adapter 'adapter.safetensors' have no place" in caplog.text


# kind: the parts of a layer of 32 × 32, one of another shape
MISSHAPEN = {
    "LoRA": {"lora_down.weight": (4, 32), "lora_up.weight": (48, 4)},
    "LoHa": {"hada_w1_a": (48, 4), "hada_w1_b": (4, 32), "hada_w2_a": (48, 4), "hada_w2_b": (4, 32)},
    "LoKr": {"lokr_w1": (4, 4), "lokr_w2": (8, 9)},
    "full difference": {"diff": (32, 48)},
}


@pytest.mark.parametrize("method", MISSHAPEN)
def test_other_shapes_are_refused_in_every_method(unet, load, error, method):
    model, layers = unet
    layer = next(iter(layers)).replace(".", "_")
    tensors = {f"lora_unet_{layer}.{part}": torch.ones(shape) for part, shape in MISSHAPEN[method].items()}
    with pytest.raises(error, match=r"is for another checkpoint family: 1 of 1 layers have other shapes"):
        load(model, tensors)


@pytest.mark.parametrize("missing", ["lora_A.weight", "lora_B.weight"])
def test_half_of_a_pair_is_refused(unet, load, error, missing):
    model, layers = unet
    tensors = plain(layers, model.model.state_dict())
    del tensors[f"{next(iter(layers))}.{missing}"]
    with pytest.raises(error, match=r"'adapter\.safetensors' is damaged: of .* Download it again"):
        load(model, tensors)


@pytest.mark.parametrize("value", [math.nan, math.inf, "integers", "booleans", "complex numbers"])
def test_impossible_numbers_are_refused(unet, load, value):
    model, layers = unet
    tensors = plain(layers, model.model.state_dict())
    key = f"{next(iter(layers))}.lora_B.weight"
    dtypes = {"integers": torch.int32, "booleans": torch.bool, "complex numbers": torch.complex64}
    tensors[key] = tensors[key].to(dtypes[value]) if value in dtypes else tensors[key] * value
    what = value if value in dtypes else "NaN or infinity"
    with pytest.raises(ValueError, match=rf"'adapter\.safetensors' cannot be used: its tensor {key} holds {what}"):
        load(model, tensors)


def test_of_a_lora_with_motion_layers_the_spatial_layers_are_taken(unet, load, caplog):
    model, layers = unet
    spatial = plain(layers, model.model.state_dict(), "unet.")
    motion = {
        f"unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.lora_{half}.weight": torch.ones(4, 4)
        for half in "AB"
    }
    with caplog.at_level(logging.INFO):
        result, alone = load(model, spatial | motion), load(model, spatial)
    assert result.patches.keys() == alone.patches.keys()
    assert all(torch.equal(change_of(result, key), change_of(alone, key)) for key in alone.patches)
    assert (
        "also has 2 tensors of motion layers, which are not used here. To use them, put the file into "
        "models/animatediff_motion_lora too and load it with Load AnimateDiff LoRA."
    ) in caplog.text


def test_text_encoder_layers_are_for_another_loader(unet, load, caplog):
    model, layers = unet
    text = {
        f"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_{half}.weight": torch.ones(4, 4) for half in ("up", "down")
    }
    result = load(model, plain(layers, model.model.state_dict(), "unet.") | text)
    assert result.patches.keys() == set(layers.values())
    assert "left out" not in caplog.text
