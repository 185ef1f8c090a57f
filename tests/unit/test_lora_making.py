"""MotionLoRAs that are computed: singular values against numpy in float64, exact sums, what is reported and refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import safetensors.torch
import torch

LINEAR = ("to_q.", "to_k.", "to_v.", "to_out.", "proj_in.", "proj_out.", "ff.net.0.proj.", "ff.net.2.")


@pytest.fixture(scope="session")
def nodes(pack) -> dict[str, type]:
    return {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes.merging").NODES}


@pytest.fixture(scope="session")
def lora_type(pack):
    return pack.submodule("lora.motion_lora")


@pytest.fixture
def load(files, write):
    return lambda tensors, name: files.load_motion_model(write(tensors, name))


@pytest.fixture
def two(motion_tensors, load):
    """Two motion models that differ in everything but their position tables, and the difference as float64."""
    start = motion_tensors(levels=(32, 64))
    generator = torch.Generator().manual_seed(5)
    goal = {
        key: value if key.endswith(".pe") else value + 0.1 * torch.randn(value.shape, generator=generator)
        for key, value in start.items()
    }
    change = {key: goal[key].numpy().astype(np.float64) - start[key].numpy() for key in start}
    return load(start, "start"), load(goal, "goal"), change


def is_linear(key: str) -> bool:
    return key.endswith(".weight") and any(name in key for name in LINEAR)


@pytest.fixture
def extract(nodes):
    def extract(start, goal, rank=64, layers="all linear layers", clamp_quantile=1.0):
        inputs = {"rank": rank, "layers": layers, "clamp_quantile": clamp_quantile}
        (applied,), report = nodes["AnimateDiffExtractMotionLoRA"].execute(motion_model=start, goal=goal, **inputs).args
        assert applied.strength.number == 1.0
        return applied.lora, report

    return extract


def product(pair) -> np.ndarray:
    down, up = (half.numpy().astype(np.float64) for half in pair)
    return up @ down


@pytest.mark.parametrize("rank", [1, 5, 64, 1000])
def test_each_layer_gets_the_nearest_change_of_that_rank(extract, two, rank):
    start, goal, change = two
    lora, _ = extract(start, goal, rank)
    assert {f"{layer}.weight" for layer in lora.pairs} == {key for key in change if is_linear(key)}
    for layer, pair in lora.pairs.items():
        s = np.linalg.svd(change[f"{layer}.weight"], compute_uv=False)
        kept = min(rank, len(s))
        assert pair[0].shape[0] == pair[1].shape[1] == kept
        # nothing of that rank is nearer than the root of the squares of the singular values left out
        error = np.linalg.norm(product(pair) - change[f"{layer}.weight"])
        assert error == pytest.approx(np.linalg.norm(s[kept:]), rel=1e-5, abs=1e-5 * s[0])


def test_only_the_attention_if_asked_for(extract, two):
    start, goal, change = two
    lora, report = extract(start, goal, layers="attention")
    assert {f"{layer}.weight" for layer in lora.pairs} == {
        key for key in change if "attention_blocks" in key and "to_" in key and key.endswith("weight")
    }
    assert "is in other linear layers, which it does not reach" in report


def test_the_report_adds_up(extract, two):
    start, goal, change = two
    _, report = extract(start, goal, rank=8)
    square = {key: float((value**2).sum()) for key, value in change.items()}
    whole = sum(square.values())
    missing = sum(
        float((np.linalg.svd(value, compute_uv=False)[8:] ** 2).sum())
        for key, value in change.items()
        if is_linear(key)
    )
    biases = sum(value for key, value in square.items() if key.endswith(".bias"))
    norms = sum(value for key, value in square.items() if key.endswith(".weight") and not is_linear(key))
    linear = sum(value for key, value in square.items() if is_linear(key))

    def percent(value: float) -> str:
        return f"{100 * value / whole:.2f} %"

    assert (
        f"{percent(linear - missing)} of the difference of 'goal' and 'start' (as squares) is in the MotionLoRA"
        in report
    )
    assert f"{percent(missing)} is more than rank 8 can hold" in report
    assert f"{percent(biases)} is in biases, which it does not reach" in report
    assert f"{percent(norms)} is in norms, which it does not reach" in report
    assert "position tables" not in report
    distance = 100 * ((missing + biases + norms) / whole) ** 0.5
    assert report.endswith(f"The two are still {distance:.2g} % of their distance apart with it.")


def test_clamping_cuts_the_largest_numbers_of_both_halves(extract, two):
    start, goal, _change = two
    free, _ = extract(start, goal, rank=8)
    lora, _ = extract(start, goal, rank=8, clamp_quantile=0.9)
    for layer, (down, up) in lora.pairs.items():
        halves = [half.numpy() for half in free.pairs[layer]]
        most = np.quantile(np.concatenate([half.ravel() for half in halves]), 0.9)
        np.testing.assert_allclose(down.numpy(), halves[0].clip(-most, most), rtol=1e-6)
        np.testing.assert_allclose(up.numpy(), halves[1].clip(-most, most), rtol=1e-6)


def test_position_tables_are_told_to_be_outside(extract, motion_tensors, load):
    start = motion_tensors(levels=(32, 64))
    goal = {key: value + 1 if key.endswith((".pe", "to_q.weight")) else value for key, value in start.items()}
    _, report = extract(load(start, "start"), load(goal, "goal"))
    assert "is in position tables, which it does not reach" in report


def test_nothing_to_extract_is_told(extract, motion_tensors, load):
    start = motion_tensors(levels=(32, 64))
    one = load(start, "start")
    with pytest.raises(
        ValueError, match=r"There is nothing to extract: the motion models 'same' and 'start' are equal"
    ):
        extract(one, load(start, "same"))
    norms = {key: value + 1 if key.endswith("norm.weight") else value for key, value in start.items()}
    with pytest.raises(ValueError, match="differ in norms only"):
        extract(one, load(norms, "norms"))


def test_models_that_do_not_fit_are_refused(extract, motion_tensors, load):
    with pytest.raises(ValueError, match="do not fit each other"):
        extract(load(motion_tensors(levels=(32, 64)), "one"), load(motion_tensors(levels=(32, 96)), "other"))


def test_an_extracted_lora_is_read_again_by_the_loader(extract, two, lora_type, tmp_path):
    """Layers outside of the attention too, under the names of our saver."""
    start, goal, _ = two
    lora, _ = extract(start, goal, rank=4)
    path = str(tmp_path / "extracted.safetensors")
    lora_type.save_motion_lora(lora, path, dtype=torch.float32)
    again = lora_type.read_motion_lora(path)
    assert again.pairs.keys() == lora.pairs.keys()
    assert all(torch.equal(a, b) for key in lora.pairs for a, b in zip(again.pairs[key], lora.pairs[key], strict=True))
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["animatediff.base"] == "start"


# Merging

LAYER = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q"
OTHER = LAYER.replace("to_q", "to_k")


@pytest.fixture
def new_lora(lora_type):
    def new(name: str, rank: int, seed: int, layers=(LAYER,), strength: float = 1.0, width: int = 32, **metadata):
        generator = torch.Generator().manual_seed(seed)
        pairs = {
            layer: (
                torch.randn(rank, width, generator=generator).half(),
                torch.randn(32, rank, generator=generator).half(),
            )
            for layer in layers
        }
        lora = lora_type.MotionLora(name, pairs, {f"animatediff.{key}": value for key, value in metadata.items()})
        strength_type = lora_type.VaryingStrength
        return lora_type.AppliedMotionLora(lora, strength_type(strength))

    return new


@pytest.fixture
def merge(nodes):
    def merge(*loras, rank=0):
        (applied,) = nodes["AnimateDiffMergeMotionLoRAs"].execute(motion_lora=loras, rank=rank).args[0]
        assert applied.strength.number == 1.0
        return applied.lora

    return merge


def test_ranks_add_up_and_strengths_count(merge, new_lora):
    one, other = new_lora("one", 3, 0, base="v3"), new_lora("other", 5, 1, (LAYER, OTHER), strength=-0.5, base="v3")
    lora = merge(one, other)
    assert lora.name == "one + other"
    assert lora.metadata == {"animatediff.base": "v3"}
    assert [lora.pairs[layer][0].shape[0] for layer in (LAYER, OTHER)] == [8, 5]
    expected = product(one.lora.pairs[LAYER]) - 0.5 * product(other.lora.pairs[LAYER])
    np.testing.assert_allclose(product(lora.pairs[LAYER]), expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(
        product(lora.pairs[OTHER]), -0.5 * product(other.lora.pairs[OTHER]), rtol=1e-6, atol=1e-6
    )


def test_a_rank_that_is_too_small_keeps_the_nearest_change(merge, new_lora, caplog):
    one, other = new_lora("one", 6, 0), new_lora("other", 6, 1, strength=0.7)
    with caplog.at_level(logging.INFO):
        lora = merge(one, other, rank=5)
    whole = product(one.lora.pairs[LAYER]) + 0.7 * product(other.lora.pairs[LAYER])
    u, s, vh = np.linalg.svd(whole)
    np.testing.assert_allclose(product(lora.pairs[LAYER]), (u[:, :5] * s[:5]) @ vh[:5], atol=1e-4 * s[0])
    assert lora.rank == 5
    missing = 100 * (s[5:] ** 2).sum() / (s**2).sum()
    assert f"of rank 5 lacks {missing:.2f} % of the change" in caplog.text


def test_no_layer_gets_more_than_its_full_rank(merge, new_lora):
    one, other = new_lora("one", 20, 0), new_lora("other", 20, 1)
    lora = merge(one, other)
    assert lora.rank == 32
    expected = product(one.lora.pairs[LAYER]) + product(other.lora.pairs[LAYER])
    np.testing.assert_allclose(product(lora.pairs[LAYER]), expected, atol=1e-3)


def test_what_cannot_be_merged_is_told(merge, new_lora, pack):
    from dataclasses import replace

    strength = pack.submodule("motion_models.network.strength")
    one = new_lora("one", 3, 0)
    varying = replace(one, strength=strength.VaryingStrength(1.0, strength.StrengthSchedule(((0.0, 1.0), (0.5, 0.0)))))
    with pytest.raises(ValueError, match=r"strength of the MotionLoRA 'one' varies.*Merge without Schedule MotionLoRA"):
        merge(one, varying)
    with pytest.raises(
        ValueError, match=r"'one' and 'wide' are for different kinds.*32 → 32 in the first, and 64 → 32"
    ):
        merge(one, new_lora("wide", 3, 1, width=64))
    with pytest.raises(ValueError, match="no MotionLoRA has a strength other than 0"):
        merge(new_lora("off", 3, 0, strength=0.0))
    with pytest.raises(ValueError, match="holds no MotionLoRA"):
        merge()
