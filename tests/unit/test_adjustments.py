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


def applied(adjustments, spec, tensors):
    """The specification and the tensors of an adjusted motion model."""
    return adjustments.spec(spec, tensors), {name: adjustments.adjusted(name, value) for name, value in tensors.items()}


def table(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"length": 6}, [0, 0.5, 7 / 6, 11 / 6, 2.5, 3]),  # docs/behaviour.md
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
    new, tensors = applied(adjustments, spec, {NAMES["pe"]: table(0, 1, 2, 3)})
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
    _, found = applied(adjust.Adjustments(weights=(adjustment,)), spec, tensors)
    assert {name for name, key in NAMES.items() if (found[key] == expected).all()} == changed
    assert all((value == 2).all() for value in tensors.values())


def test_adjustments_are_made_in_the_order_of_the_chain(adjust, spec):
    chain = (adjust.WeightAdjustment("add", {"all": 1.0}), adjust.WeightAdjustment("multiply", {"all": 3.0}))
    tensors = {NAMES["q"]: torch.ones(2)}
    assert applied(adjust.Adjustments(weights=chain), spec, tensors)[1][NAMES["q"]].tolist() == [6, 6]
    assert applied(adjust.Adjustments(weights=chain[::-1]), spec, tensors)[1][NAMES["q"]].tolist() == [4, 4]


# What cannot be made.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"length": 500_000}, "new_sweetspot (interpolate_pe_to_length) asks for 500,000 frames"),
        ({"stretch": 200_000}, "pe_stretch (motion_pe_stretch) asks for 200,000 frames"),
        ({"length": 4097}, "no longer than 4,096: published ones have 24 to 64"),
        ({"cap": 1, "length": 10**30}, "Lower it"),
        ({"stretch": -1}, "pe_stretch (motion_pe_stretch) of an Adjust PE node is -1. Give 0 or more frames"),
        ({"length": -5}, "Give 0 or more"),
        ({"cap": -5}, "Give 0 or more"),
        ({"initial_offset": -5}, "Give 0 or more"),
        ({"final_offset": -5}, "Give 0 or more"),
    ],
)
def test_positions_that_no_table_can_have_are_refused_by_their_widget(adjust, changes, words):
    with pytest.raises(adjust.AdjustmentError) as caught:
        adjust.PositionAdjustment(**changes)
    assert words in str(caught.value)


def test_a_chain_that_grows_too_long_is_refused(adjust, spec):
    chain = (adjust.PositionAdjustment(stretch=4000),) * 2
    with pytest.raises(adjust.AdjustmentError, match="A chain of Adjust PE nodes asks for 8,004 frames"):
        adjust.Adjustments(chain).spec(spec, {NAMES["pe"]: table(0, 1, 2, 3)})


def test_the_longest_table(adjust):
    assert adjust.PositionAdjustment(length=4096).adjusted(table(0, 1, 2, 3)).shape == (1, 4096, 1)
    assert adjust.PositionAdjustment(stretch=4092).adjusted(table(0, 1, 2, 3)).shape == (1, 4096, 1)


def test_frames_to_drop_or_keep_may_be_any_number(adjust):
    assert adjust.PositionAdjustment(cap=10**30).adjusted(table(0, 1, 2, 3)).shape == (1, 4, 1)
    for field in ("initial_offset", "final_offset"):
        with pytest.raises(adjust.AdjustmentError, match="Lower the offsets"):
            adjust.PositionAdjustment(**{field: 10**30}).adjusted(table(0, 1, 2, 3))


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("operation", ["add", "multiply"])
def test_amounts_that_leave_no_weights_are_refused(adjust, operation, amount):
    with pytest.raises(adjust.AdjustmentError, match="The attn_q amount of a weight adjustment is"):
        adjust.WeightAdjustment(operation, {"attn_q": amount})


def test_the_nodes_refuse_before_a_motion_model_is_read(pack):
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes.motion_models.settings").NODES}
    with pytest.raises(ValueError, match=r"new_sweetspot .* 500,000"):
        nodes["ADE_AdjustPESweetspotStretch"].execute(sweetspot=1, new_sweetspot=500_000, print_adjustment=False)
    with pytest.raises(ValueError, match=r"pe_stretch .* 200,000"):
        nodes["ADE_AdjustPEFullStretch"].execute(pe_stretch=200_000, print_adjustment=False)
