"""Strengths as numbers or masks, keyframes and per-block settings: what each motion module ends up with."""

import pytest
import torch


@pytest.fixture
def multival(pack):
    return pack.submodule("sampling.strength.multival")


@pytest.fixture
def motion(pack):
    return pack.submodule("sampling.motion.applied")


@pytest.fixture
def chains(pack):
    return pack.submodule("sampling.keyframes")


@pytest.fixture
def per_block(pack):
    return pack.submodule("sampling.strength.per_block")


@pytest.fixture
def spec(pack):
    levels = ((32, 32), (64, 64))
    up = ((64,) * 3, (32,) * 3)
    return pack.submodule("motion_models.spec").MotionModelSpec(
        "m", "AnimateDiff", "v2", levels, (64,), up, 2, 8, 32, 0
    )


def test_products(multival):
    mask = torch.rand(2, 4, 4)
    assert multival.combined(None, None) == 1.0
    assert multival.combined(None, 0.5) == 0.5
    assert multival.combined(0.5, None) == 0.5
    assert multival.combined(0.5, 3.0) == 1.5
    assert torch.equal(multival.combined(mask, 2.0), mask * 2)
    longer = torch.rand(3, 4, 4)
    product = multival.combined(mask, longer)
    assert torch.equal(product, longer * mask[[0, 1, 1]])


def test_masks_meet_at_the_larger_size_cropped_to_its_shape(multival):
    wide = torch.zeros(1, 2, 4)
    wide[..., 1:3] = 1.0  # the middle, which is all that a square sees of it
    square = torch.full((1, 8, 8), 0.5)
    assert torch.equal(multival.combined(wide, square), square)


def test_numbers_and_lists(multival):
    assert multival.of_numbers(0.3) == 0.3
    assert multival.of_numbers([1, 2]).tolist() == [[[1.0]], [[2.0]]]
    mask = torch.full((1, 2, 2), 0.5)
    assert multival.of_numbers([1, 2, 4], mask)[:, 0, 0].tolist() == [0.5, 1.0, 2.0]
    with pytest.raises(ValueError, match="empty"):
        multival.of_numbers([])


@pytest.mark.parametrize("shape", [(4, 4), (1, 1, 4, 4), (2, 1, 4, 4)])
def test_masks_of_any_layout(multival, shape):
    mask = torch.rand(shape)
    expected = mask.reshape(-1, 4, 4)
    assert torch.equal(multival.of_numbers(2.0, mask), 2 * expected)
    assert torch.equal(multival.of_numbers([2.0], mask), 2 * expected)
    assert torch.equal(multival.scaled_mask(mask, 0.0, 2.0, relative=False), 2 * expected)


def test_scaled_masks(multival):
    mask = torch.tensor([[[0.2, 0.6]]])
    assert multival.scaled_mask(mask, 1.0, 2.0, relative=False).flatten().tolist() == pytest.approx([1.2, 1.6])
    assert multival.scaled_mask(mask, 1.0, 2.0, relative=True).flatten().tolist() == pytest.approx([1.0, 2.0])
    per_frame = multival.scaled_mask(mask, [0.0, 1.0], 2.0, relative=False)
    assert per_frame.shape == (2, 1, 2)
    assert per_frame[:, 0, 0].tolist() == pytest.approx([0.4, 1.2])
    one_value = multival.scaled_mask(torch.full((1, 2, 2), 0.5), 1.0, 3.0, relative=True)
    assert torch.equal(one_value, torch.full((1, 2, 2), 2.0)), "nothing to stretch: as it is, from 0..1"


@pytest.fixture
def keyframes(motion, chains):
    def new(*items):
        found = ()
        for start, values in items:
            found = chains.chained((motion.Keyframe(start, **values),), found)
        return found

    return new


def effects(motion, spec, settings) -> list:
    return [inputs.default.effect for inputs in motion.inputs_at_keyframes(settings, spec, 8)]


def test_keyframes_multiply_and_inherit(motion, keyframes, spec):
    settings = motion.MotionSettings(
        effect=0.5,
        keyframes=keyframes(
            (0.2, {"effect": 0.8}), (0.4, {"scale": 2.0}), (0.6, {"scale": 3.0, "inherit_missing": False})
        ),
    )
    # the built-in one at 0, then 0.8, inherited, not inherited
    assert effects(motion, spec, settings) == [0.5, 0.4, 0.4, 0.5]
    scales = [inputs.default.scale for inputs in motion.inputs_at_keyframes(settings, spec, 8)]
    assert scales == [(), (), (2.0, 2.0), (3.0, 3.0)]


def test_a_keyframe_at_0_takes_the_place_of_the_built_in_one(motion, keyframes, spec):
    settings = motion.MotionSettings(keyframes=keyframes((0.0, {"effect": 0.25})))
    assert effects(motion, spec, settings) == [0.25]


def test_of_per_block_entries_the_first_that_says_so_counts(motion, per_block, spec):
    block, at = per_block.Block, per_block.BlockAt
    settings = motion.MotionSettings(
        effect=0.5,
        scale=2.0,
        per_block=per_block.PerBlock(
            (
                at(block(scales=(3.0,)), "down", 1),
                at(block(effect=0.1), "down", 1, 0),
                at(block(effect=0.2, scales=(5.0, None)), "down"),
                at(block(effect=0.0), "mid"),
            )
        ),
    )
    (inputs,) = motion.inputs_at_keyframes(settings, spec, 8)
    found = {name: (module.effect, module.scale) for name, module in inputs.modules.items()}
    assert found == {
        "down_blocks.0.motion_modules.0": (0.1, (10.0, 2.0)),
        "down_blocks.0.motion_modules.1": (0.1, (10.0, 2.0)),
        "down_blocks.1.motion_modules.0": (0.05, (6.0, 6.0)),
        "down_blocks.1.motion_modules.1": (0.1, (6.0, 6.0)),
        "mid_block.motion_modules.0": (0.0, (2.0, 2.0)),
    }
    assert inputs.module("up_blocks.0.motion_modules.0") is inputs.default
    assert (inputs.default.effect, inputs.default.scale) == (0.5, (2.0, 2.0))


def test_per_block_settings_of_another_family_are_refused(motion, per_block, spec):
    with pytest.raises(per_block.PerBlockMismatch, match=r"for SDXL motion models, but 'm' is for custom"):
        per_block.PerBlock(family="SDXL").check(spec)


# Sigmas of 10 steps of sqrt_linear (AnimateDiff) with the scheduler "normal", and percents as sigmas.
SIGMAS = [25.1461, 13.2913, 7.5013, 4.4956, 2.8327, 1.8465, 1.2143, 0.7708, 0.4231, 0.0292]
STARTS = {0.0: 999999999.9, 0.2: 9.0, 0.21: 8.5, 0.22: 8.1, 0.5: 2.2803, 0.55: 1.9}


@pytest.mark.parametrize(
    ("items", "index", "expected"),
    [
        ([(0.0, 1), (0.0, 1), (0.5, 1)], -1, "1111122222"),
        ([(0.0, 1), (0.5, 1), (0.5, 3), (0.5, 1), (0.55, 1)], -1, "0000012223"),
        ([(0.0, 1), (0.2, 0), (0.21, 2), (0.22, 1)], -1, "0022333333"),
        ([(0.0, 3), (0.0, 2), (0.5, 1)], 0, "1111122222"),
    ],
)
def test_which_item_is_in_force(pack, motion, chains, items, index, expected):
    """As seen in the incumbent."""
    step_of = pack.submodule("sampling.feature").Step
    chain = [motion.Keyframe(percent, guarantee_steps=steps) for percent, steps in items]
    in_force = chains.InForce(chain, [STARTS[percent] for percent, _ in items], SIGMAS[0], index)
    found = []
    for i, sigma in enumerate(SIGMAS):
        step = step_of(i, lambda sigma=sigma: sigma)
        found.append(in_force.at(step))
        assert in_force.at(step) == found[-1]  # a second call at one sigma is no step
    assert "".join(map(str, found)) == expected
