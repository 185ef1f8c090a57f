"""Where motion modules sit, and that a UNet is as before once they are out."""

from types import SimpleNamespace

import pytest
import torch


@pytest.fixture
def injection(pack):
    return pack.submodule("motion_models.network.injection")


def places(unet, injection) -> dict[str, list[int]]:
    """The indices of the blocks that hold a slot, by part."""

    def holds(block):
        return any(isinstance(layer, injection.MotionSlot) for layer in block)

    parts = {"input": unet.input_blocks, "middle": [unet.middle_block], "output": unet.output_blocks}
    return {name: [i for i, block in enumerate(blocks) if holds(block)] for name, blocks in parts.items()}


@pytest.mark.parametrize(
    ("layout", "mid", "expected"),
    [
        ("SD1.5", True, {"input": [1, 2, 4, 5, 7, 8, 10, 11], "middle": [0], "output": list(range(12))}),
        ("SD1.5", False, {"input": [1, 2, 4, 5, 7, 8, 10, 11], "middle": [], "output": list(range(12))}),
        ("SDXL", False, {"input": [1, 2, 4, 5, 7, 8], "middle": [], "output": list(range(9))}),
        ("SDXL", True, {"input": [1, 2, 4, 5, 7, 8], "middle": [0], "output": list(range(9))}),
        ("unusual", True, {"input": [1, 3], "middle": [0], "output": [0, 1, 2, 3]}),
    ],
)
def test_places(new_unet, new_motion, layouts, injection, layout, mid, expected):
    unet = new_unet(layouts[layout])
    injection.inject(unet, [new_motion(layouts[layout], mid=mid).model])
    assert places(unet, injection) == expected


def test_order_within_a_block(new_unet, new_motion, injection):
    """Behind the spatial transformer (or the residual block), before upsampling; the first model of the list last."""
    unet = new_unet()
    first, second = new_motion(name="first").model, new_motion(name="second").model
    injection.inject(unet, [first, second])

    def names(block):
        return [
            ["first", "second"][layer.model_index] if isinstance(layer, injection.MotionSlot) else type(layer).__name__
            for layer in block
        ]

    assert names(unet.input_blocks[1]) == ["ResBlock", "SpatialTransformer", "second", "first"]
    assert names(unet.input_blocks[10]) == ["ResBlock", "second", "first"]
    assert names(unet.middle_block) == ["ResBlock", "SpatialTransformer", "second", "first", "ResBlock"]
    assert names(unet.output_blocks[2]) == ["ResBlock", "second", "first", "Upsample"]
    assert names(unet.output_blocks[5]) == ["ResBlock", "SpatialTransformer", "second", "first", "Upsample"]


@pytest.fixture
def slot(pack, new_motion, injection):
    """`slot(x, frames)`: one motion module in a UNet call whose clips have so many frames."""
    call = pack.submodule("motion_models.network.call")
    module = new_motion().model.mid_block.motion_modules[0]

    def run(x, frames, motion_models=1):
        options = {call.CALL_KEY: call.MotionCall((call.MotionInputs(),) * motion_models, frames)}
        return injection.MotionSlot(module, 0, 1)(x, options)

    run.channels = module.temporal_transformer.proj_in.in_features
    run.bare = injection.MotionSlot(module, 0, 1)
    return run


def test_a_slot_keeps_the_clips_of_a_batch_apart(slot):
    """Of conds, and of tiles that another pack puts into one call."""
    x = torch.randn(12, slot.channels, 2, 2)
    torch.testing.assert_close(slot(x, 3), torch.cat([slot(clip, 3) for clip in x.split(3)]))
    assert not torch.allclose(slot(x, 3), slot(x, 6))


def test_a_slot_refuses_what_is_no_whole_clips(slot):
    with pytest.raises(ValueError, match="10 pictures, which are no whole clips of 4 frames"):
        slot(torch.randn(10, slot.channels, 2, 2), 4)


@pytest.mark.parametrize("options", [None, {}, {"cond_or_uncond": [0, 1]}])
def test_a_slot_without_a_call_says_what_to_do(slot, options):
    with pytest.raises(ValueError, match="connect the MODEL of Use Evolved Sampling to both"):
        slot.bare(torch.randn(4, slot.channels, 2, 2), options)


def test_a_slot_refuses_a_call_for_other_motion_models(slot):
    with pytest.raises(ValueError, match="1 motion models in it was called with the options of a MODEL that has 2"):
        slot(torch.randn(4, slot.channels, 2, 2), 4, motion_models=2)


def test_unet_is_as_before_after_ejection(new_unet, new_motion, injection):
    unet = new_unet()
    layers = dict(unet.named_modules())
    injection.inject(unet, [new_motion().model])
    assert len(dict(unet.named_modules())) > len(layers)
    injection.eject(unet)
    assert list(dict(unet.named_modules()).items()) == list(layers.items())


def test_weights_of_motion_models_never_show_in_the_unet(new_unet, new_motion, injection):
    unet = new_unet()
    parameters = {id(parameter) for parameter in unet.parameters()}
    injection.inject(unet, [new_motion().model])
    assert {id(parameter) for parameter in unet.parameters()} == parameters


def test_layers_keep_their_names_behind_a_module(new_unet, new_motion, injection):
    """The host looks them up while it samples: control LoRAs and hooks."""
    unet = new_unet()
    before = {name: id(value) for name, value in unet.named_parameters()}
    injection.inject(unet, [new_motion(name="first").model, new_motion(name="second").model])
    assert {name: id(value) for name, value in unet.named_parameters()} == before
    injection.eject(unet)
    assert {name: id(value) for name, value in unet.named_parameters()} == before


def test_injecting_twice_does_not_stack(new_unet, new_motion, injection):
    unet = new_unet()
    motion = new_motion().model
    injection.inject(unet, [motion])
    count = len(list(injection.slots(unet)))
    injection.inject(unet, [motion])
    assert len(list(injection.slots(unet))) == count == 21


@pytest.mark.parametrize(("unet_layout", "motion_layout"), [("SD1.5", "SDXL"), ("SDXL", "SD1.5"), ("unusual", "SD1.5")])
def test_a_motion_model_that_does_not_fit(new_unet, new_motion, layouts, injection, unet_layout, motion_layout):
    unet = new_unet(layouts[unet_layout])
    layers = list(unet.named_modules())
    with pytest.raises(injection.MotionModelMismatch, match="does not fit this checkpoint's UNet"):
        injection.inject(unet, [new_motion(layouts[motion_layout]).model])
    assert list(unet.named_modules()) == layers


@pytest.mark.parametrize(("motion_family", "checkpoint"), [("SD1.5", "SDXL"), ("SDXL", "BaseModel")])
def test_a_motion_model_of_the_other_family_is_named_before_sampling(
    pack, animate, injection, new_unet, motion_family, checkpoint
):
    levels = {"SD1.5": (320, 640, 1280, 1280), "SDXL": (320, 640, 1280)}[motion_family]
    spec_type = pack.submodule("motion_models.spec").MotionModelSpec
    spec = spec_type("mm", "AnimateDiff", "v2", tuple((c,) for c in levels), (), (), 2, 8, 32, 0)
    motion = SimpleNamespace(model=SimpleNamespace(spec=spec))
    model = SimpleNamespace(model=type(checkpoint, (), {"diffusion_model": new_unet()})())
    with pytest.raises(
        injection.MotionModelMismatch, match=f"'mm' is for {motion_family} checkpoints, but the checkpoint is"
    ):
        animate(model, motion)


def test_a_motion_model_and_something_that_is_no_unet(new_motion, injection):
    with pytest.raises(injection.MotionModelMismatch, match="this checkpoint is a Linear"):
        injection.check_fit(new_motion().model.spec, torch.nn.Linear(1, 1))


def test_joint_group_norm_alters_only_this_unet_and_only_inside(pack, new_unet, new_motion, injection):
    group_norm = pack.submodule("motion_models.network.group_norm")
    unet, other = new_unet(), new_unet()
    motion = new_motion().model
    injection.inject(unet, [motion])
    norm = unet.out[0]
    x = torch.randn(4, norm.num_channels, 3, 3)
    joint = x.unflatten(0, (2, 2)).transpose(1, 2)
    expected = torch.nn.functional.group_norm(joint, 32, norm.weight, norm.bias, norm.eps).transpose(1, 2).flatten(0, 1)
    before = {id(module): dict(module.__dict__) for root in (unet, motion) for module in root.modules()}
    with pytest.raises(RuntimeError, match="raised inside"), group_norm.joint_group_norm(unet, frames=2):
        torch.testing.assert_close(norm(x), expected)
        assert "forward" in motion.mid_block.motion_modules[0].temporal_transformer.norm.__dict__
        assert "forward" not in other.out[0].__dict__
        raise RuntimeError("raised inside")
    assert not torch.allclose(norm(x), expected)
    assert before == {id(module): dict(module.__dict__) for root in (unet, motion) for module in root.modules()}
