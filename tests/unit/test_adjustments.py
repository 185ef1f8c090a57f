"""Adjustments of a motion model as it is loaded."""

from __future__ import annotations

import pytest
import torch

ATTENTION = "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0."
NAMES = {
    "pe": f"{ATTENTION}pos_encoder.pe",
    "q": f"{ATTENTION}to_q.weight",
    "k": f"{ATTENTION}to_k.weight",
    "out": f"{ATTENTION}to_out.0.weight",
    "out_bias": f"{ATTENTION}to_out.0.bias",
    "norm": "mid_block.motion_modules.0.temporal_transformer.norm.weight",
}


@pytest.fixture
def adjust(pack):
    return pack.submodule("motion_models.files.adjust")


@pytest.fixture
def spec(pack):
    new = pack.submodule("motion_models.spec").MotionModelSpec
    return new("m", "AnimateDiff", "v2", (), (32,), (), 1, 8, 4, 0)


def table(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"length": 6}, [0, 0.5, 7 / 6, 11 / 6, 2.5, 3]),  # the specification's example
        ({"stretch": 2}, [0, 0.5, 7 / 6, 11 / 6, 2.5, 3]),
        ({"cap": 2}, [0, 1]),
        ({"initial_offset": 1}, [1, 2, 3]),
        ({"final_offset": 3}, [3]),
        ({"initial_offset": 1, "cap": 2, "length": 4, "final_offset": 1}, [1.25, 1.75, 2]),
        ({}, [0, 1, 2, 3]),
    ],
)
def test_position_tables(adjust, changes, expected):
    found = adjust.PositionAdjustment(**changes).adjusted(table(0, 1, 2, 3))
    torch.testing.assert_close(found, table(*expected))


def test_no_frame_left_is_an_error_that_says_what_to_do(adjust):
    with pytest.raises(adjust.AdjustmentError, match="Lower the offsets"):
        adjust.PositionAdjustment(initial_offset=4).adjusted(table(0, 1, 2, 3))


def test_the_model_handles_as_many_frames_as_its_table_then_has(adjust, spec):
    adjustments = adjust.Adjustments((adjust.PositionAdjustment(cap=2), adjust.PositionAdjustment(length=6)))
    new, tensors = adjustments.apply(spec, {NAMES["pe"]: table(0, 1, 2, 3)})
    assert new.max_frames == 6
    assert tensors[NAMES["pe"]].shape == (1, 6, 1)


@pytest.mark.parametrize(
    ("group", "changed"),
    [
        ("all", set(NAMES)),
        ("pe", {"pe"}),
        ("attn", {"q", "k", "out", "out_bias"}),
        ("attn_q", {"q"}),
        ("attn_out_weight", {"out"}),
        ("attn_out_bias", {"out_bias"}),
        ("other", {"norm"}),
    ],
)
@pytest.mark.parametrize(("operation", "expected"), [("add", 3.5), ("multiply", 1.0)])
def test_weight_groups(adjust, spec, group, changed, operation, expected):
    tensors = {name: torch.full((1, 4, 1), 2.0) for name in NAMES.values()}
    adjustment = adjust.WeightAdjustment(operation, {group: 1.5 if operation == "add" else 0.5})
    _, found = adjust.Adjustments(weights=(adjustment,)).apply(spec, tensors)
    assert {name for name, key in NAMES.items() if (found[key] == expected).all()} == changed
    assert all((value == 2).all() for value in tensors.values())


def test_adjustments_are_made_in_the_order_of_the_chain(adjust, spec):
    chain = (adjust.WeightAdjustment("add", {"all": 1.0}), adjust.WeightAdjustment("multiply", {"all": 3.0}))
    tensors = {NAMES["q"]: torch.ones(2)}
    assert adjust.Adjustments(weights=chain).apply(spec, tensors)[1][NAMES["q"]].tolist() == [6, 6]
    assert adjust.Adjustments(weights=chain[::-1]).apply(spec, tensors)[1][NAMES["q"]].tolist() == [4, 4]
