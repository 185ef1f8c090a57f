"""Merged motion models against sums in float64, and what is told of models that do not fit each other."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch


@pytest.fixture(scope="session")
def merging(pack):
    return pack.submodule("motion_models.merging")


@pytest.fixture(scope="session")
def nodes(pack) -> dict[str, type]:
    return {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes.merging").NODES}


@pytest.fixture
def three(new_motion, tmp_path):
    """Three motion models of one kind, and what is in their files as float64."""
    models = [new_motion(name=name, seed=seed) for seed, name in enumerate(("first", "second", "third"), start=1)]
    files = [safetensors.torch.load_file(tmp_path / f"{model.model.spec.name}.safetensors") for model in models]
    return models, [{key: value.numpy().astype(np.float64) for key, value in file.items()} for file in files]


def run(node: type, **inputs):
    return node.execute(**inputs).args[0]


def numbers(patcher) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in patcher.model.state_dict().items()}


def assert_close(patcher, expected: dict[str, np.ndarray]) -> None:
    found = numbers(patcher)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def test_the_weight_is_the_share_of_the_second_model(nodes, three):
    (one, other, _), (a, b, _) = three
    before = [numbers(one).copy(), numbers(other).copy()]
    before = [{key: value.copy() for key, value in each.items()} for each in before]
    result = run(nodes["AnimateDiffMergeMotionModels"], motion_model_1=one, motion_model_2=other, weight=0.3)
    assert_close(result, {key: 0.7 * a[key] + 0.3 * b[key] for key in a})
    for patcher, weights in zip((one, other), before, strict=True):
        assert all(np.array_equal(value, weights[key]) for key, value in numbers(patcher).items())


@pytest.mark.parametrize(("weight", "which"), [(0.0, 0), (1.0, 1)])
def test_the_ends_are_the_models_themselves(nodes, three, weight, which):
    models, files = three
    result = run(
        nodes["AnimateDiffMergeMotionModels"], motion_model_1=models[0], motion_model_2=models[1], weight=weight
    )
    assert_close(result, files[which])


def test_blocks_have_weights_of_their_own(nodes, three):
    (one, other, _), (a, b, _) = three
    blocks = "down: 0.25, down_1: 1\nup_2__0: 0; mid: 0.75, up_2: 0.125"
    result = run(
        nodes["AnimateDiffMergeMotionModels"], motion_model_1=one, motion_model_2=other, weight=0.5, blocks=blocks
    )

    def weight(key: str) -> float:
        for beginning, value in (
            ("down_blocks.1.", 1.0),
            ("down_blocks.", 0.25),
            ("mid_block.", 0.75),
            ("up_blocks.2.motion_modules.0.", 0.0),
            ("up_blocks.2.", 0.125),
        ):
            if key.startswith(beginning):
                return value
        return 0.5

    assert {weight(key) for key in a} == {0.0, 0.125, 0.25, 0.5, 0.75, 1.0}
    assert_close(result, {key: (1 - weight(key)) * a[key] + weight(key) * b[key] for key in a})


@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_a_difference_is_added(nodes, three, strength):
    (base, plus, minus), (a, b, c) = three
    result = run(nodes["AnimateDiffAddMotionModelDifference"], base=base, plus=plus, minus=minus, strength=strength)
    assert_close(result, {key: a[key] + strength * (b[key] - c[key]) for key in a})


def test_a_model_may_be_several_of_the_inputs(nodes, three):
    (base, plus, _), (_a, b, _) = three
    result = run(nodes["AnimateDiffAddMotionModelDifference"], base=base, plus=plus, minus=base, strength=1.0)
    assert_close(result, b)


KEY = "up_blocks.0.motion_modules.1.temporal_transformer.transformer_blocks.0.attention_blocks.1.to_k.weight"


def test_weight_patches_of_an_input_are_part_of_it(nodes, three):
    """MotionLoRAs of constant strength are weight patches on a clone; what is merged is what would be sampled with."""
    (one, other, _), (a, b, _) = three
    patched = one.clone()
    width = a[KEY].shape[0]
    patched.add_patches({KEY: ("diff", (torch.eye(width),))}, 0.5)
    result = run(nodes["AnimateDiffMergeMotionModels"], motion_model_1=patched, motion_model_2=other, weight=0.25)
    expected = {key: 0.75 * a[key] + 0.25 * b[key] for key in a}
    expected[KEY] = expected[KEY] + 0.75 * 0.5 * np.eye(width)
    assert_close(result, expected)
    assert not one.patches
    assert not result.patches


def test_patches_that_a_run_has_left_in_the_weights_count_once(nodes, three):
    import comfy.model_management

    (one, other, _), (a, b, _) = three
    patched = one.clone()
    patched.add_patches({KEY: ("diff", (torch.ones(a[KEY].shape, dtype=torch.float32),))}, 1.0)
    comfy.model_management.load_models_gpu([patched])
    try:
        assert not np.allclose(numbers(one)[KEY], a[KEY])
        merge = nodes["AnimateDiffMergeMotionModels"]
        plain = run(merge, motion_model_1=one, motion_model_2=other, weight=0.5)
        with_it = run(merge, motion_model_1=patched, motion_model_2=other, weight=0.5)
    finally:
        patched.detach()
    expected = {key: 0.5 * a[key] + 0.5 * b[key] for key in a}
    assert_close(plain, expected)
    assert_close(with_it, {**expected, KEY: expected[KEY] + 0.5})


def test_a_merged_model_can_be_applied_twice_and_saved(pack, nodes, three, tmp_path):
    (one, other, _), _ = three
    result = run(nodes["AnimateDiffMergeMotionModels"], motion_model_1=one, motion_model_2=other, weight=0.5)
    assert result.model.spec.name == "first + second"
    copy = pack.submodule("motion_models.files.motion_model").fresh_copy(result)
    assert copy.model is not result.model
    assert all(np.array_equal(value, numbers(copy)[key]) for key, value in numbers(result).items())
    path = str(tmp_path / "saved.safetensors")
    pack.submodule("motion_models.files.saving").save_motion_model(result, path)
    again = pack.submodule("motion_models.files.motion_model").load_motion_model(path)
    assert all(np.array_equal(value, numbers(again)[key]) for key, value in numbers(result).items())


def test_what_the_first_model_brings_besides_stays_with_it(pack, nodes, three):
    """An image encoder, a camera control: only motion modules are mixed."""
    patcher = pack.submodule("host.patcher")
    (one, other, _), _ = three
    merge = nodes["AnimateDiffMergeMotionModels"]
    camera = object()
    result = run(merge, motion_model_1=patcher.with_parts(one, {"camera": camera}), motion_model_2=other, weight=0.5)
    assert patcher.parts(result) == {"camera": camera}
    assert not patcher.parts(run(merge, motion_model_1=one, motion_model_2=other, weight=0.5))


@pytest.fixture
def refused(pack, nodes):
    def refused(first, second) -> str:
        with pytest.raises(pack.submodule("motion_models.network.injection").MotionModelMismatch) as caught:
            run(nodes["AnimateDiffMergeMotionModels"], motion_model_1=first, motion_model_2=second, weight=0.5)
        message = str(caught.value)
        assert message.startswith("The motion models 'first' and 'second' do not fit each other: the first ")
        return message

    return refused


def test_families_blocks_and_tables_that_differ_are_told(refused, new_motion, layouts):
    first = new_motion(name="first")
    assert "is for UNets of 32/64/128/128 channels, the second is for UNets of 32/96 channels" in refused(
        first, new_motion(layouts["unusual"], name="second")
    )
    assert (
        "has 2+2+2+2 modules for the down blocks, 1 for the middle and 3+3+3+3 for the up blocks, the second has 2+2+2+2 "
        "modules for the down blocks, none for the middle"
    ) in refused(first, new_motion(name="second", mid=False))
    message = refused(first, new_motion(name="second", frames=24))
    assert "the first has positions for 32 frames, the second has positions for 24 frames" in message
    assert "Load 'first' with the ad_settings of Adjust PE (Sweetspot), sweetspot and new_sweetspot 24" in message


def test_what_is_advised_for_other_tables_works(pack, nodes, new_motion_file, new_motion):
    adjust = pack.submodule("motion_models.files.adjust")
    adjustments = adjust.Adjustments(positions=(adjust.PositionAdjustment(cap=24, length=24),))
    files = pack.submodule("motion_models.files.motion_model")
    first = files.load_motion_model(new_motion_file(name="first"), adjustments)
    result = run(
        nodes["AnimateDiffMergeMotionModels"],
        motion_model_1=first,
        motion_model_2=new_motion(name="second", frames=24),
        weight=0.5,
    )
    assert result.model.spec.max_frames == 24


def test_layouts_versions_and_heads_that_differ_are_told(refused, files, motion_tensors, write):
    plain = {"levels": (32, 64)}
    first = files.load_motion_model(write(motion_tensors(**plain), "first"))
    lcm = files.load_motion_model(write(motion_tensors(**plain, table=None), "second"))
    assert "is a AnimateDiff model, the second is a AnimateLCM model" in refused(first, lcm)
    heads = files.load_motion_model(write(motion_tensors(**plain), "second", metadata={"animatediff.heads": "4"}))
    assert "with 8 heads in each module, the second has 2 attention blocks with 4 heads" in refused(first, heads)
    v1 = files.load_motion_model(write(motion_tensors(**plain), "second", metadata={"animatediff.version": "v1"}))
    assert "is of version v2, the second is of version v1" in refused(first, v1)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (
            "sideways: 1",
            r"blocks, line 1, character 1: expected a block \(down, mid, up, down_0, down_0__1, …\), found 's'",
        ),
        ("down: 1, down: 0", "character 10: expected a block that was not named before"),
        ("down 1", r"character 6: expected ':' and a weight behind down"),
        ("down: much", r"expected a strength \(a number\) behind 'down:'"),
        ("down_4: 1", r"blocks names down_4, which the motion model 'first' does not have\. It has down_0 to down_3"),
        ("up_1__3: 1", r"blocks names up_1__3, which the motion model 'first' does not have"),
        ("downwards: 1", "expected a block"),
    ],
)
def test_a_wrong_text_of_blocks_is_told(nodes, three, blocks, message):
    (one, other, _), _ = three
    with pytest.raises(ValueError, match=message):
        run(nodes["AnimateDiffMergeMotionModels"], motion_model_1=one, motion_model_2=other, weight=0.5, blocks=blocks)


def test_stop_is_heeded(nodes, three):
    import comfy.model_management

    (one, other, _), _ = three
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(nodes["AnimateDiffMergeMotionModels"], motion_model_1=one, motion_model_2=other, weight=0.5)
    comfy.model_management.interrupt_current_processing(False)


def test_the_bar_has_a_step_for_each_tensor(nodes, three, monkeypatch):
    import comfy.utils

    (one, other, _), (a, _, _) = three
    shown = []
    monkeypatch.setattr(comfy.utils.ProgressBar, "update", lambda bar, value: shown.append((value, bar.total)))
    run(nodes["AnimateDiffMergeMotionModels"], motion_model_1=one, motion_model_2=other, weight=0.5)
    assert shown == [(1, len(a))] * len(a)


def test_weights_that_outgrow_their_type_are_refused(nodes, three, monkeypatch, pack):
    monkeypatch.setattr(pack.submodule("motion_models.files.weights"), "weight_dtype", lambda: torch.float16)
    (base, plus, minus), _ = three
    with pytest.raises(ValueError, match=r"grow beyond what float16 can hold \(down_blocks.*Lower the strength"):
        run(nodes["AnimateDiffAddMotionModelDifference"], base=base, plus=plus, minus=minus, strength=1e6)
