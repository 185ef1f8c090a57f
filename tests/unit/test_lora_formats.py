"""LoRA files of other programs: which change of the weights each means, or how it is told that it cannot be used.

Names, headers and scales were compared once with files that the programs themselves wrote for a small UNetMotionModel, and
with the weights that peft merged and that LyCORIS computed with: peft 0.21.2, diffusers 0.42.1, lycoris-lora 4.1.3 (November
2026). Here the same names are written out by hand.
"""

from __future__ import annotations

import json
import logging
import math

import pytest
import safetensors.torch
import torch

CHANNELS, RANK = 24, 4
OURS = "{}.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.{}.{}"
DIFFUSERS = "{}.motion_modules.0.transformer_blocks.0.attn{}.{}"
BLOCKS = ("down_blocks.0", "mid_block", "up_blocks.1")
# What a LoRA of motion layers changes: name here -> name in diffusers, which peft's patterns are for.
LAYERS = {
    OURS.format(block, attention, projection): DIFFUSERS.format(block, attention + 1, projection)
    for block in BLOCKS
    for attention in (0, 1)
    for projection in ("to_q", "to_k", "to_v", "to_out.0")
}
# The rest of what peft 0.21 writes, of which nothing matters here.
PEFT = {"peft_type": "LORA", "peft_version": "0.21.2", "bias": "none", "init_lora_weights": True, "use_dora": False}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(layer: str, rank: int = RANK) -> tuple[torch.Tensor, torch.Tensor]:
    seed = list(LAYERS).index(layer)
    return random(rank, CHANNELS, seed=seed), random(CHANNELS, rank, seed=seed + 100)


def change(layer: str, scale: float, rank: int = RANK) -> torch.Tensor:
    down, up = pair(layer, rank)
    return scale * up @ down


@pytest.fixture(scope="session")
def read(pack):
    return pack.submodule("lora.motion_lora").read_motion_lora


@pytest.fixture(scope="session")
def error(pack):
    return pack.submodule("lora.error").LoraFileError


@pytest.fixture
def lora_file(tmp_path):
    def write(tensors, header=None, config=None, name="zoom.safetensors") -> str:
        path = tmp_path / name
        safetensors.torch.save_file({key: value.contiguous() for key, value in tensors.items()}, path, header)
        if config is not None:
            (tmp_path / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        return str(path)

    return write


def assert_changes(lora, expected: dict[str, torch.Tensor]) -> None:
    assert lora.pairs.keys() == expected.keys()
    for layer, (down, up) in lora.pairs.items():
        torch.testing.assert_close(up.float() @ down.float(), expected[layer], rtol=1e-5, atol=1e-5)


# --- strength that stands beside the tensors ---


def peft(ranks=lambda layer: RANK, prefix: str = "") -> dict[str, torch.Tensor]:
    """Names of diffusers 0.42.1 (prefix "" in save_lora_adapter, "unet." in save_lora_weights), of peft 0.21.2 itself
    ("base_model.model.")."""
    tensors = {}
    for ours, theirs in LAYERS.items():
        down, up = pair(ours, ranks(theirs))
        tensors |= {f"{prefix}{theirs}.lora_A.weight": down, f"{prefix}{theirs}.lora_B.weight": up}
    return tensors


def rank_of_keys(layer: str) -> int:
    return 8 if layer.endswith("attn1.to_k") else RANK


# name: (what peft is told, rank of a layer, alpha of a layer)
CONFIGS = {
    "alpha is the rank": ({"r": RANK, "lora_alpha": RANK}, lambda layer: RANK, lambda layer: RANK),
    "alpha twice the rank": ({"r": RANK, "lora_alpha": 8}, lambda layer: RANK, lambda layer: 8),
    "alpha below the rank": ({"r": RANK, "lora_alpha": 1.5}, lambda layer: RANK, lambda layer: 1.5),
    "rank pattern": ({"r": RANK, "lora_alpha": 4, "rank_pattern": {"attn1.to_k": 8}}, rank_of_keys, lambda layer: 4),
    "alpha pattern, the first that matches counts": (
        {"r": RANK, "lora_alpha": 2, "alpha_pattern": {r"up_blocks\.\d.*to_v": 16, "to_v": 12, "o_q": 99}},
        lambda layer: RANK,
        lambda layer: (16 if layer.startswith("up_blocks") else 12) if layer.endswith("to_v") else 2,
    ),
    "both patterns": (
        {"r": RANK, "lora_alpha": 2, "rank_pattern": {"attn1.to_k": 8}, "alpha_pattern": {"^down_blocks.*to_k": 5}},
        rank_of_keys,
        lambda layer: 5 if layer.startswith("down_blocks") and layer.endswith("to_k") else 2,
    ),
}
WRITERS = {
    "diffusers, save_lora_adapter": ("", lambda config: {"header": {"lora_adapter_metadata": json.dumps(config)}}),
    "diffusers, save_lora_weights": (
        "unet.",
        lambda config: {
            "header": {
                "format": "pt",
                "lora_adapter_metadata": json.dumps(
                    {f"unet.{key}": value for key, value in config.items()}
                    | {"text_encoder.r": 64, "text_encoder.lora_alpha": 1}
                ),
            }
        },
    ),
    "peft, save_pretrained": (
        "base_model.model.",
        lambda config: {"config": config, "name": "adapter_model.safetensors"},
    ),
    "peft, renamed": ("base_model.model.", lambda config: {"config": config}),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("config", CONFIGS)
def test_peft_lora_has_the_strength_of_its_configuration(read, lora_file, caplog, config, rslora, writer):
    words, rank, alpha = CONFIGS[config]
    prefix, beside = WRITERS[writer]
    with caplog.at_level(logging.INFO):
        lora = read(lora_file(peft(rank, prefix), **beside({**PEFT, **words, "use_rslora": rslora})))
    scales = {
        ours: alpha(theirs) / (math.sqrt(rank(theirs)) if rslora else rank(theirs)) for ours, theirs in LAYERS.items()
    }
    assert_changes(lora, {ours: change(ours, scales[ours], rank(theirs)) for ours, theirs in LAYERS.items()})
    assert ("alpha / rank is" in caplog.text) == (set(scales.values()) != {1.0})


def test_without_configuration_alpha_is_the_rank_and_peft_s_missing_one_is_told(read, lora_file, caplog):
    expected = {ours: change(ours, 1.0) for ours in LAYERS}
    assert_changes(read(lora_file(peft(prefix="unet."))), expected)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert_changes(read(lora_file(peft(prefix="base_model.model."))), expected)
    assert (
        "was saved by peft, and its adapter_config.json is not beside it: alpha is taken to be the rank" in caplog.text
    )


def test_adapter_config_of_another_lora_in_the_same_folder_does_not_count(read, lora_file):
    config = {**PEFT, "r": RANK, "lora_alpha": 64}
    lora_file(peft(prefix="base_model.model."), config=config, name="adapter_model.safetensors")
    for prefix in ("", "base_model.model."):
        lora = read(lora_file(peft(prefix=prefix), name="other.safetensors"))
        assert_changes(lora, {ours: change(ours, 1.0) for ours in LAYERS})


def test_what_is_loaded_and_saved_again_keeps_its_strength(pack, read, lora_file, tmp_path):
    header = {"lora_adapter_metadata": json.dumps({**PEFT, "r": RANK, "lora_alpha": 12}), "ss_comment": "kept"}
    lora = read(lora_file(peft(), header=header))
    path = str(tmp_path / "again.safetensors")
    pack.submodule("lora.motion_lora").save_motion_lora(lora, path, dtype=torch.float32)
    assert_changes(read(path), {ours: change(ours, 3.0) for ours in LAYERS})
    assert read(path).metadata["ss_comment"] == "kept"


@pytest.mark.parametrize(
    ("alpha", "differs"), [(8, False), (2, True)], ids=["header and tensors agree", "header and tensors differ"]
)
def test_alpha_in_the_file_counts_and_a_header_that_disagrees_is_told(read, lora_file, caplog, alpha, differs):
    header = {"lora_adapter_metadata": json.dumps({**PEFT, "r": RANK, "lora_alpha": 8})}
    alphas = {f"{theirs}.alpha": torch.tensor(alpha) for theirs in LAYERS.values()}  # an integer, as kohya's scripts do
    assert_changes(
        read(lora_file(peft() | alphas, header=header)), {ours: change(ours, alpha / RANK) for ours in LAYERS}
    )
    assert (
        "tells the strength of 24 layers twice, and differently: alpha in the file makes it 0.5" in caplog.text
    ) == differs


def told(**more) -> str:
    return json.dumps({"r": RANK, "lora_alpha": 8, **more})


# kind: (what the configuration says, what the message says)
BROKEN = {
    "no JSON": ("{no json", r"is damaged or no JSON\. Save the LoRA again"),
    "a list": ("[1]", "holds no object"),
    "alpha in words": (told(lora_alpha="eight"), "tells a strength that cannot be right .*lora_alpha eight"),
    "rank 0": (told(r=0), r"cannot be right \(r 0"),
    "a boolean": (told(lora_alpha=True), "cannot be right"),
    "infinite": ('{"r": 4, "lora_alpha": 1e999}', "cannot be right"),
    "no regular expression": (told(alpha_pattern={"to_(q": 4}), "cannot be right"),
    "a list of layers": (told(alpha_pattern=["to_q"]), "cannot be right"),
    "10,001 layers": (told(rank_pattern={f"layer{i}": 4 for i in range(10_001)}), "cannot be right"),
    "a repetition that is repeated": (told(rank_pattern={"((.*)+)+z": 4}), "cannot be right"),
    "20 repetitions": (told(rank_pattern={".*" * 20 + "z": 4}), "cannot be right"),
    "another rank": (told(r=16), r"says that the rank of .* is 16, but it is 4\. It belongs to another LoRA"),
    "another method": (
        told(peft_type="IA3"),
        "was made by peft's method IA3; of peft's methods only LORA, LOHA, LOKR can be used",
    ),
    "PiSSA": (
        told(init_lora_weights="pissa_niter_16"),
        "was begun as pissa_niter_16, which changes the network's own weights too.*path_initial_model_for_weight_conversion",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_configuration_that_does_not_tell_the_strength_is_refused(read, error, lora_file, kind):
    config, message = BROKEN[kind]
    beginning = r"^'zoom\.safetensors' cannot be used: "
    with pytest.raises(error, match=rf"{beginning}its header \(lora_adapter_metadata\).*{message}"):
        read(lora_file(peft(), header={"lora_adapter_metadata": config}))
    with pytest.raises(error, match=rf"{beginning}adapter_config\.json beside it.*{message}"):
        read(lora_file(peft(prefix="base_model.model."), config=config))


# --- names and methods ---


def of_layers(name, parts) -> dict[str, torch.Tensor]:
    return {f"{name(names)}.{part}": value for names in LAYERS.items() for part, value in parts(names[0]).items()}


def plain(layer: str) -> dict[str, torch.Tensor]:
    down, up = pair(layer)
    return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(6.0)}


def loha(layer: str, rank: int = 2) -> dict[str, torch.Tensor]:
    seed = 10 * list(LAYERS).index(layer)
    shapes = {"w1_a": (CHANNELS, rank), "w1_b": (rank, CHANNELS), "w2_a": (CHANNELS, rank), "w2_b": (rank, CHANNELS)}
    return {f"hada_{name}": random(*shape, seed=seed + i) for i, (name, shape) in enumerate(shapes.items())}


def loha_change(layer: str, rank: int = 2) -> torch.Tensor:
    parts = loha(layer, rank)
    return (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])


def lokr(layer: str, first: bool, second: bool, rank: int = 2) -> dict[str, torch.Tensor]:
    """4 × 4 and 6 × 6; ``first`` and ``second``: whether they are products themselves."""
    seed = 10 * list(LAYERS).index(layer)
    parts = {}
    for number, (name, width, is_product) in enumerate((("w1", 4, first), ("w2", 6, second))):
        if is_product:
            parts[f"lokr_{name}_a"] = random(width, rank, seed=seed + number)
            parts[f"lokr_{name}_b"] = random(rank, width, seed=seed + number + 5)
        else:
            parts[f"lokr_{name}"] = random(width, width, seed=seed + number)
    return parts


def lokr_change(layer: str, first: bool, second: bool, rank: int = 2) -> torch.Tensor:
    parts = lokr(layer, first, second, rank)
    whole = [
        parts[f"lokr_{name}"] if f"lokr_{name}" in parts else parts[f"lokr_{name}_a"] @ parts[f"lokr_{name}_b"]
        for name in ("w1", "w2")
    ]
    return torch.kron(*whole)


def with_alpha(parts, alpha: float):
    return lambda layer: parts(layer) | {"alpha": torch.tensor(alpha)}


# kind: (name of a layer, from ours and diffusers'; its parts; the change of it that they make)
KINDS = {
    "kohya, layers of AnimateDiff": (lambda n: "lora_unet_" + n[0].replace(".", "_"), plain, lambda x: change(x, 1.5)),
    "kohya, layers of diffusers": (lambda n: "lora_unet_" + n[1].replace(".", "_"), plain, lambda x: change(x, 1.5)),
    "LyCORIS 4.1.3 (lycoris_)": (lambda n: "lycoris_" + n[1].replace(".", "_"), plain, lambda x: change(x, 1.5)),
    "LyCORIS, LoHa": (
        lambda n: "lycoris_" + n[1].replace(".", "_"),
        with_alpha(loha, 1.0),
        lambda x: 0.5 * loha_change(x),
    ),
    "LyCORIS, LoHa of a rank whose square is above the width": (
        lambda n: "lora_unet_" + n[1].replace(".", "_"),
        with_alpha(lambda x: loha(x, 6), 3.0),
        lambda x: 0.5 * loha_change(x, 6),
    ),
    "LyCORIS, LoKr": (
        lambda n: "lora_unet_" + n[1].replace(".", "_"),
        with_alpha(lambda x: lokr(x, False, True), 1.0),
        lambda x: 0.5 * lokr_change(x, False, True),
    ),
    "LyCORIS, LoKr with decompose_both": (
        lambda n: "lora_unet_" + n[0].replace(".", "_"),
        with_alpha(lambda x: lokr(x, True, True), 1.0),
        lambda x: 0.5 * lokr_change(x, True, True),
    ),
    "LyCORIS, LoKr in full_matrix, where alpha says nothing": (
        lambda n: "lora_unet_" + n[1].replace(".", "_"),
        with_alpha(lambda x: lokr(x, False, False), 10000.0),
        lambda x: lokr_change(x, False, False),
    ),
    "LyCORIS, full difference": (
        lambda n: "lora_unet_" + n[1].replace(".", "_"),
        lambda x: {"diff": change(x, 2.0)},
        lambda x: change(x, 2.0),
    ),
    "another name of the adapter (a peft state dict)": (
        lambda n: f"base_model.model.{n[1]}",
        lambda x: {"lora_A.my-zoom.weight": pair(x)[0], "lora_B.my-zoom.weight": pair(x)[1]},
        lambda x: change(x, 1.0),
    ),
    "without .weight": (
        lambda n: n[0],
        lambda x: {"lora_A": pair(x)[0], "lora_B": pair(x)[1]},
        lambda x: change(x, 1.0),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_reads_names_and_methods_of_other_programs(read, lora_file, kind):
    name, parts, expected = KINDS[kind]
    assert_changes(read(lora_file(of_layers(name, parts))), {layer: expected(layer) for layer in LAYERS})


@pytest.mark.parametrize("method", ["LOHA", "LOKR"])
def test_loha_and_lokr_of_peft_have_the_strength_of_their_configuration(read, lora_file, method):
    """peft 0.21.2: alpha / r for LoKr too where nothing of it has a low rank, unlike LyCORIS."""
    parts = loha if method == "LOHA" else lambda layer: lokr(layer, False, False)
    expected = loha_change if method == "LOHA" else lambda layer: lokr_change(layer, False, False)
    config = {"peft_type": method, "r": 2, "alpha": 3, "rank_pattern": {}, "alpha_pattern": {"to_v": 5}}
    lora = read(lora_file(of_layers(lambda n: f"base_model.model.{n[1]}", parts), config=config))
    assert_changes(lora, {layer: (2.5 if layer.endswith("to_v") else 1.5) * expected(layer) for layer in LAYERS})


def test_layers_outside_the_attention(read, lora_file):
    """Targets such as proj_in and ff.net.0.proj, in kohya's names."""
    module = "down_blocks.0.motion_modules.1.temporal_transformer."
    layers = ("proj_in", "transformer_blocks.0.ff.net.0.proj", "transformer_blocks.0.ff.net.2", "proj_out")
    tensors = {}
    for layer in layers:
        key = f"lora_unet_{module}{layer}".replace(".", "_")
        tensors |= {f"{key}.lora_down.weight": random(2, 8), f"{key}.lora_up.weight": random(8, 2)}
    assert read(lora_file(tensors)).pairs.keys() == {f"{module}{layer}" for layer in layers}


# kind: (tensors of one layer beside those of a plain LoRA, or in their place; what the message says)
REFUSED = {
    "DoRA, peft": ({"lora_magnitude_vector": torch.ones(CHANNELS)}, "DoRA"),
    "DoRA, LyCORIS": ({"dora_scale": torch.ones(CHANNELS, 1)}, "DoRA"),
    "biases, peft (lora_bias)": (
        {"lora_B.bias": torch.ones(CHANNELS)},
        r"LoRA with trained biases \(peft's option lora_bias\)",
    ),
    "biases, peft (bias)": (
        {"base_layer.bias": torch.ones(CHANNELS)},
        r"LoRA with trained biases \(peft's option bias\)",
    ),
    "full differences with biases": ({"diff_b": torch.ones(CHANNELS)}, "full differences with biases"),
    "IA3, peft": ({"ia3_l": torch.ones(CHANNELS, 1)}, "IA3"),
    "IA3, LyCORIS": ({"weight": torch.ones(CHANNELS), "on_input": torch.tensor(0)}, "IA3"),
    "OFT, peft": ({"oft_R.weight": torch.ones(8, 6)}, "OFT or BOFT"),
    "OFT, LyCORIS": ({"oft_blocks": torch.ones(8, 3, 3)}, "OFT or BOFT"),
    "BOFT, peft": ({"boft_R": torch.ones(1, 8, 3, 3), "boft_s": torch.ones(CHANNELS, 1)}, "BOFT"),
    "GLoRA": ({f"{x}.weight": torch.ones(4, 4) for x in ("a1", "a2", "b1", "b2")}, "GLoRA"),
    "VeRA": ({"vera_lambda_b": torch.ones(CHANNELS), "vera_lambda_d": torch.ones(4)}, "VeRA"),
    "AdaLoRA": ({"lora_E": torch.ones(4, 1)}, "AdaLoRA"),
    "KaSA": ({"lora_diag": torch.ones(4)}, "KaSA"),
    "T-LoRA": ({"lambda_layer": torch.ones(1, 4)}, "T-LoRA"),
    "HRA": ({"hra_u": torch.ones(CHANNELS, 4)}, "a method of peft other than LoRA"),
    "SHiRA": ({"shira_indices": torch.ones(2, 4, dtype=torch.int32)}, "a method of peft other than LoRA"),
    "norms, LyCORIS": ({"w_norm": torch.ones(CHANNELS)}, "differences of norms"),
}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("kind", REFUSED)
def test_other_methods_are_refused_by_their_name(pack, read, error, lora_file, kind, alone):
    parts, method = REFUSED[kind]
    tensors = {} if alone else peft()
    for theirs in LAYERS.values():
        tensors |= {f"{theirs}.{part}": value.clone() for part, value in parts.items()}
    path = lora_file(tensors)
    with pytest.raises(
        error,
        match=rf"'zoom\.safetensors' changes layers of a motion model by {method}, which cannot be applied here\. Merge it into "
        r"its motion model with the program that made it \(in peft: merge_and_unload\)",
    ):
        read(path)
    # and is taken for no motion model
    with pytest.raises(ValueError, match=r"is no motion model\. It is a MotionLoRA"):
        pack.submodule("motion_models.files.motion_model").load_motion_model(path)


def test_a_whole_model_with_lora_layers_in_it_is_refused(read, error, lora_file):
    tensors = {f"{key[:-7]}.default.weight": value for key, value in peft(prefix="base_model.model.").items()}
    tensors |= {
        f"base_model.model.{theirs}.base_layer.weight": random(CHANNELS, CHANNELS) for theirs in LAYERS.values()
    }
    with pytest.raises(error, match=r"holds a whole model with LoRA layers in it\. Save the LoRA alone"):
        read(lora_file(tensors))


def test_whole_layers_beside_the_lora_are_refused(read, error, lora_file):
    """peft's option modules_to_save."""
    tensors = peft() | {"mid_block.motion_modules.0.proj_out.weight": random(CHANNELS, CHANNELS)}
    with pytest.raises(error, match=r"of a kind that this version does not know: 1 of its tensors are no part of LoRA"):
        read(lora_file(tensors))


def test_two_loras_in_one_file_are_refused(read, error, lora_file):
    tensors = {}
    for name in ("one", "two"):
        tensors |= {f"{key[:-7]}.{name}.weight": value for key, value in peft().items()}
    with pytest.raises(error, match=r"holds more than one LoRA for the same layers"):
        read(lora_file(tensors))


LAYER = next(iter(LAYERS.values()))


@pytest.mark.parametrize(
    "parts",
    [
        {"lora_A.weight": random(4, 8)},
        {"lora_A.weight": random(4, 8), "lora_B.weight": random(8, 3)},
        {"lora_A.weight": random(4, 8, 1, 1), "lora_B.weight": random(8, 4, 1, 1)},
        {"lora_A.weight": torch.tensor(1.0), "lora_B.weight": torch.tensor(1.0)},
        {"hada_w1_a": random(8, 2), "hada_w1_b": random(2, 8), "hada_w2_a": random(8, 2)},
        {"hada_w1_a": random(8, 2), "hada_w1_b": random(2, 8), "hada_w2_a": random(6, 2), "hada_w2_b": random(2, 8)},
        {"lokr_w1": random(2, 2)},
        {"lokr_w1": random(2, 2), "lokr_w2_a": random(4, 2), "lokr_w2_b": random(3, 4)},
        {"lokr_w1": random(4), "lokr_w2": random(2, 2)},
        {"diff": random(8)},
        {"alpha": torch.tensor(4.0)},
        {"lora_A.weight": random(4, 8), "lora_B.weight": random(8, 4), "alpha": torch.ones(3)},
    ],
)
def test_parts_that_make_no_change_are_refused(read, error, lora_file, parts):
    tensors = peft() | {key: value for key, value in peft().items() if not key.startswith(LAYER)}
    tensors = {key: value for key, value in tensors.items() if not key.startswith(f"{LAYER}.")}
    tensors |= {f"{LAYER}.{part}": value for part, value in parts.items()}
    with pytest.raises(error, match=r"'zoom\.safetensors' is damaged: .*to_q.* Download it again"):
        read(lora_file(tensors))


IMPOSSIBLE = {
    "NaN": (torch.full((4, CHANNELS), math.nan), "holds NaN or infinity"),
    "infinity": (torch.full((4, CHANNELS), -math.inf).half(), "holds NaN or infinity"),
    "integers": (torch.ones(4, CHANNELS, dtype=torch.int8), "holds integers"),
    "booleans": (torch.ones(4, CHANNELS, dtype=torch.bool), "holds booleans"),
    "complex numbers": (torch.ones(4, CHANNELS, dtype=torch.complex64), "holds complex numbers"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_impossible_numbers_are_refused(read, lora_file, tmp_path, what):
    value, message = IMPOSSIBLE[what]
    tensors = peft() | {f"{LAYER}.lora_A.weight": value}
    path = str(tmp_path / "zoom.ckpt")
    torch.save(tensors, path)
    for file in (path, lora_file(tensors)):
        with pytest.raises(
            ValueError, match=rf"'zoom\.\w+' cannot be used: its tensor {LAYER}\.lora_A\.weight {message}"
        ):
            read(file)
    with pytest.raises(ValueError, match=rf"{LAYER}\.alpha holds NaN"):
        read(lora_file(peft() | {f"{LAYER}.alpha": torch.tensor(math.nan)}))


# --- spatial and motion layers in one file ---


def test_of_a_lora_with_spatial_layers_the_motion_layers_are_taken(read, lora_file, caplog):
    spatial = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = peft(prefix="unet.") | {
        f"{spatial}.lora_A.weight": random(4, 8),
        f"{spatial}.lora_B.weight": random(8, 4),
    }
    tensors |= {f"{spatial}.lora_magnitude_vector": torch.ones(8)}  # DoRA of layers that are not used matters not
    with caplog.at_level(logging.INFO):
        assert_changes(read(lora_file(tensors)), {layer: change(layer, 1.0) for layer in LAYERS})
    assert (
        "also has 3 tensors of layers that are no motion module's, which are not used here. To use them, put the file into "
        "models/loras too and load it with Load Domain Adapter."
    ) in caplog.text


def test_the_text_encoder_is_no_half(read, lora_file, caplog):
    tensors = peft(prefix="unet.") | {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": random(4, 8)}
    with caplog.at_level(logging.INFO):
        read(lora_file(tensors))
    assert "also has" not in caplog.text
