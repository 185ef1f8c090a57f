"""Several context windows in one UNet call: the numbers of windows one by one, and when they go so all the same."""

from __future__ import annotations

import logging
import math

import pytest
import torch

FRAMES = 10


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def nodes(pack):
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result


@pytest.fixture
def context(pack):
    windows, options = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")

    def make(schedule="standard_static", length=4, overlap=2, stride=1, closed=False, fuse="pyramid", **changes):
        return options.Context(windows.WindowOptions(schedule, length, overlap, stride, closed), fuse, **changes)

    return make


@pytest.fixture
def small(pack, new_model, new_motion, layouts):
    """`small(contexts, **settings of the motion model)`: a MODEL on the smallest of the UNets."""
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    model, motion_model = new_model(layouts["unusual"]), new_motion(layouts["unusual"])

    def make(contexts, apply_v2_properly=True, **settings):
        applied = motion.apply(motion_model, motion.MotionSettings(**settings))
        return animate(model, applied, "autoselect", tuple(contexts), apply_v2_properly=apply_v2_properly)

    make.motion_model = motion_model
    return make


@pytest.fixture
def rows(pack):
    """`rows(model)`: the list to which each UNet call adds how many pictures it was given."""

    def watch(model) -> list[int]:
        seen = []

        def wrapper(apply_model, arguments):
            seen.append(len(arguments["input"]))
            return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

        model.set_model_unet_function_wrapper(wrapper)
        return seen

    return watch


def per_block(pack):
    blocks = pack.submodule("sampling.strength.per_block")
    block = blocks.Block(numbers(FRAMES, 3, 3, seed=3), (numbers(FRAMES, 1, 1, seed=4), 0.5))
    return blocks.PerBlock((blocks.BlockAt(block, "up"),))


SETTINGS = {
    "nothing else": lambda pack: {},
    "scale": lambda pack: {"scale": numbers(FRAMES, 3, 3)},
    "effect": lambda pack: {"effect": numbers(FRAMES, 3, 3, seed=1) + 0.5},
    "an effect for each frame": lambda pack: {"effect": numbers(FRAMES, 1, 1, seed=1) + 0.5},
    "one mask for all frames": lambda pack: {"scale": numbers(1, 3, 3), "effect": numbers(1, 3, 3, seed=1)},
    "single blocks": lambda pack: {"per_block": per_block(pack), "effect": 0.7},
    "joint group norm": lambda pack: {"apply_v2_properly": False, "scale": numbers(FRAMES, 3, 3)},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("apart", [False, True], ids=["conds together", "conds apart"])
def test_masks_over_frames_follow_each_window(
    pack, small, context, sample, alike_in_one_batch, name, apart, monkeypatch
):
    settings = SETTINGS[name](pack)
    if apart:  # the host takes one cond at a time where memory is short
        model = small((context(),)).model
        monkeypatch.setattr(model, "memory_required", lambda *args, **kwargs: float("inf"), raising=False)
    alike_in_one_batch(
        lambda contexts: small(contexts, **settings),
        lambda model: sample(model, frames=FRAMES),
        (context(),),
        at_once=4,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "standard_uniform"},
        {"schedule": "standard_uniform", "stride": 2},
        {"schedule": "looped_uniform", "closed": True, "fuse": "flat"},
        {"schedule": "looped_uniform", "stride": 3, "fuse": "overlap-linear"},  # frames twice in a window
        {"schedule": "batched", "overlap": 0},  # of ten frames the last window has two
        {"fuse": "relative"},
        {"fuse": "🔬random"},
        {"fuse": "🔬gauss-sigma"},
    ],
    ids=str,
)
@pytest.mark.parametrize("at_once", [2, 3])
def test_schedules_and_fuse_methods(small, context, sample, alike_in_one_batch, options, at_once):
    mask = numbers(FRAMES, 3, 3)
    alike_in_one_batch(
        lambda contexts: small(contexts, scale=mask, effect=mask + 0.5),
        lambda model: sample(model, frames=FRAMES),
        (context(**options),),
        at_once,
    )


def test_views_in_each_window(pack, small, context, sample, alike_in_one_batch):
    windows, options = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    views = options.ViewOptions(windows.WindowOptions("standard_static", 3, 2), "pyramid")
    alike_in_one_batch(
        lambda contexts: small(contexts, scale=numbers(FRAMES, 3, 3)),
        lambda model: sample(model, frames=FRAMES),
        (context(views=views),),
    )


def test_a_motion_lora_has_in_each_window_the_strengths_of_its_frames(
    pack, small, nodes, context, sample, alike_in_one_batch, new_lora_file
):
    lora = nodes("ADE_AnimateDiffLoRALoader", name=new_lora_file(small.motion_model), strength=1.0)[0]
    ramp = ", ".join(f"{frame}: {frame / FRAMES}" for frame in range(FRAMES))
    mask = numbers(FRAMES, 2, 3)
    schedule = {"strengths": "0: 1, 1: 0.2", "interpolation": "linear", "frame_strengths": ramp, "mask": mask}
    lora = nodes("AnimateDiffScheduleMotionLoRA", motion_lora=lora, **schedule)[0]
    applied = nodes("ADE_ApplyAnimateDiffModelSimple", motion_model=small.motion_model, motion_lora=lora)[0]
    animate = pack.submodule("sampling.evolved").animate
    clip = alike_in_one_batch(
        lambda contexts: animate(small(()), applied, "autoselect", contexts),
        lambda model: sample(model, frames=FRAMES),
        (context(),),
        at_once=4,
    )
    assert not torch.allclose(clip, sample(small((context(),)), frames=FRAMES), rtol=1e-2)


def test_sdxl_and_two_motion_models(
    pack, new_sdxl_model, new_motion, layouts, context, sample, alike_in_one_batch, new_cond
):
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    model = new_sdxl_model(pooled=16)
    first = motion.apply(
        new_motion(layouts["SDXL"], "one", mid=False), motion.MotionSettings(effect=numbers(FRAMES, 3, 3))
    )
    both = motion.apply(new_motion(layouts["SDXL"], "two", mid=False, seed=2), motion.MotionSettings(scale=0.8), first)
    pooled = numbers(FRAMES, 16)  # one for each frame
    conds = tuple([[text, {"pooled_output": pooled}] for text, _ in new_cond(seed)] for seed in (1, 2))
    alike_in_one_batch(
        lambda contexts: animate(model, both, "autoselect", contexts),
        lambda model: sample(model, frames=FRAMES, steps=2, conds=conds),
        (context(),),
    )


# How many go together


def test_without_the_node_and_at_1_windows_go_one_by_one(pack, nodes, small, sample, rows):
    context = nodes("ADE_StandardStaticContextOptions", context_length=4, context_overlap=2)[0]
    plain = small(context)
    first = sample(plain, frames=FRAMES, steps=1)
    one = small(nodes("AnimateDiffWindowBatch", context_opts=context, windows_at_once=1)[0])
    seen = rows(one)
    assert torch.equal(sample(one, frames=FRAMES, steps=1), first)
    assert seen == [8, 8, 8, 8]
    assert torch.equal(sample(plain, frames=FRAMES, steps=1), first)


def test_the_node_says_how_many_for_all_contexts_of_a_chain(nodes):
    first = nodes("ADE_BatchedContextOptions", context_length=4)[0]
    chain = nodes(
        "ADE_StandardUniformContextOptions", context_length=4, context_stride=1, context_overlap=2, prev_context=first
    )[0]
    found = nodes("AnimateDiffWindowBatch", context_opts=chain, windows_at_once=3)[0]
    assert [context.at_once for context in found] == [3, 3]
    assert [context.at_once for context in chain] == [1, 1]


def test_batches_are_of_windows_of_equal_length_in_their_order_and_as_even_as_can_be(pack):
    batches = pack.submodule("sampling.windows.windowed").batches
    windows = [[i, i + 1] for i in range(7)]
    assert [len(batch) for batch in batches(windows, 3)] == [2, 2, 3]
    assert [window for batch in batches(windows, 3) for window in batch] == windows
    assert [len(batch) for batch in batches(windows, 100)] == [7]
    assert list(batches([[0, 1], [1, 2], [3], [4, 5]], 4)) == [[[0, 1], [1, 2]], [[3]], [[4, 5]]]


def test_other_packs_learn_which_frames_all_rows_are_of(small, context, sample):
    model = small((context(at_once=2),))
    seen = []

    def wrapper(apply_model, arguments):
        seen.append(arguments["c"]["transformer_options"]["ad_params"])
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(wrapper)
    sample(model, frames=FRAMES, steps=1)
    assert [told["sub_idxs"] for told in seen] == [[0, 1, 2, 3, 2, 3, 4, 5], [4, 5, 6, 7, 6, 7, 8, 9]]
    assert {(told["full_length"], told["context_length"]) for told in seen} == {(FRAMES, 4)}


@pytest.mark.parametrize(("gib", "expected"), [(100.0, [32]), (3.1, [16, 16]), (1.0, [8, 8, 8, 8])])
def test_automatic_takes_as_many_windows_as_fit_beside_each_other(
    small, context, sample, rows, monkeypatch, gib, expected
):
    import comfy.model_management

    model = small((context(at_once=0),))
    per_frame = 2**30 / 8 / 1.5  # a window of four frames, for two conds and with the host's margin: a GiB

    def need(input_shape, cond_shapes=None):
        return input_shape[0] * per_frame

    monkeypatch.setattr(model.model, "memory_required", need, raising=False)
    free = gib * 2**30 + 1
    monkeypatch.setattr(
        comfy.model_management,
        "get_free_memory",
        lambda dev=None, torch_free_too=False: (free, free) if torch_free_too else free,
    )
    seen = rows(model)
    sample(model, frames=FRAMES, steps=1)
    assert seen == expected


@pytest.fixture
def asked(host_path, monkeypatch) -> list[int]:
    """For how many pictures of a cond the host reserves memory, run by run."""
    import comfy.sampler_helpers

    asked = []
    estimate = comfy.sampler_helpers.estimate_memory
    monkeypatch.setattr(
        comfy.sampler_helpers,
        "estimate_memory",
        lambda model, shape, *args: asked.append(shape[0]) or estimate(model, shape, *args),
    )
    return asked


def test_the_host_reserves_memory_for_all_windows_of_a_batch(small, context, sample, asked):
    for at_once in (0, 1, 3, 100):
        sample(small((context(at_once=at_once),)), frames=FRAMES, steps=1)
    assert asked == [4, 4, 12, 16]
    for contexts in (
        (context(), context(length=8, start_percent=0.5)),
        (context(length=8), context(start_percent=0.5)),
    ):
        sample(small(contexts), frames=FRAMES, steps=2)
    assert asked[4:] == [8, 8]  # of the context that needs most, whenever its turn comes


def test_the_host_reserves_memory_for_a_chunk_and_what_is_kept_of_the_rest(pack, nodes, small, sample, asked):
    kept_bytes = pack.submodule("motion_models.network.frame_chunks").kept_bytes
    animate = pack.submodule("sampling.evolved").animate
    frames = 64
    for at_once, chunk in ((3, 3), (0, 4), (frames, frames)):
        (contexts,) = nodes(
            "AnimateDiffSharedWindowsContextOptions",
            context_length=4,
            context_overlap=2,
            schedule="standard_static",
            one_motion=0.0,
            cut_off=0.25,
            one_motion_end_percent=1.0,
            frames_at_once=at_once,
            skips_in_ram=False,
        )
        model = small(contexts)
        base = model.model
        kept = kept_bytes(base.diffusion_model, torch.empty(frames, 4, 8, 8, device="meta"))
        share = kept / (frames * base.memory_required([1, 4, 8, 8]))
        assert 0 < share < 0.5
        sample(model, frames=frames, steps=1)
        assert asked.pop() == min(frames, math.ceil(chunk + share * frames))
        # without a motion model spatial layers see all frames together
        sample(animate(model, (), "autoselect", contexts), frames=frames, steps=1)
        assert asked.pop() == frames


UNICTRL = {"strength": 1.0, "motion_end_percent": 1.0, "start_percent": 0.0, "end_percent": 1.0}
ZERO = {"motion_x": 0.0, "motion_y": 0.0, "delta_t": 0.0, "attention": 1.0}


def easy_cache(model):
    from comfy_extras.nodes_easycache import EasyCacheNode

    return EasyCacheNode.execute(model, 0.0, 0.0, 1.0, False)[0]


@pytest.fixture
def alone(pack, nodes):
    """What needs every window by itself: name -> (options of the context, what is done to the MODEL)."""
    extras = nodes("ADE_ContextExtras_NaiveReuse")[0]

    def put_extras(contexts):
        return nodes("ADE_ContextExtras_Set", context_opts=contexts, context_extras=extras)[0]

    def same(value):
        return value

    def motion_clone(model):
        feature = pack.submodule("sampling.motion_clone.feature").MotionClone(numbers(FRAMES, 4, 8, 8))
        return pack.submodule("sampling.animate").with_inner_feature(model, feature)

    return {
        "NaiveReuse": (put_extras, same),
        "UniCtrl": (same, lambda model: nodes("AnimateDiffUniCtrl", model=model, **UNICTRL)[0]),
        "Text2Video-Zero": (same, lambda model: nodes("AnimateDiffText2VideoZero", model=model, **ZERO)[0]),
        "EasyCache": (same, easy_cache),
        "Motion Clone": (same, motion_clone),
    }


@pytest.mark.parametrize("name", ["NaiveReuse", "UniCtrl", "Text2Video-Zero", "EasyCache", "Motion Clone"])
def test_what_looks_at_single_windows_gets_them_one_by_one(alone, small, context, sample, rows, caplog, name):
    with_contexts, with_model = alone[name]

    def clip(at_once):
        model = with_model(small(with_contexts((context(at_once=at_once),))))
        seen = rows(model)
        return sample(model, frames=FRAMES, steps=1), seen

    with caplog.at_level(logging.INFO):
        (apart, expected), (together, seen) = clip(1), clip(4)
    assert torch.equal(together, apart)
    assert seen == expected
    if name != "NaiveReuse":  # which acts in some steps only
        assert f"Context windows go through the UNet one by one, as {name} needs them so." in caplog.text


def test_extras_that_do_not_act_any_more_leave_windows_together(nodes, small, context, sample, rows):
    extras = nodes("ADE_ContextExtras_NaiveReuse", end_percent=0.3)[0]
    contexts = nodes("ADE_ContextExtras_Set", context_opts=(context(at_once=4),), context_extras=extras)[0]
    model = small(contexts)
    seen = rows(model)
    sample(model, frames=FRAMES, steps=2)
    assert seen == [8, 8, 8, 8, 32]


def test_controls_that_follow_windows_by_themselves_get_them_one_by_one(small, context, sample, rows, new_cond):
    import comfy.controlnet

    class OfAnotherPack(comfy.controlnet.ControlBase):
        sub_idxs, ACN_VERSION = None, 1

        def get_control(self, *args):
            return None

        def copy(self):
            return OfAnotherPack()

    plain = comfy.controlnet.ControlBase()
    plain.get_control = lambda *args: None
    plain.set_previous_controlnet(OfAnotherPack())
    conds = (new_cond(1, control=plain), new_cond(2))
    model = small((context(at_once=4),))
    seen = rows(model)
    sample(model, frames=FRAMES, steps=1, conds=conds)
    assert seen == [4, 4] * 4  # a cond with a ControlNet and one without are not put together either


def test_a_model_that_counts_frames_itself_gets_windows_one_by_one(pack, context):
    import comfy.conds

    at_once, feature = pack.submodule("sampling.windows.at_once"), pack.submodule("sampling.feature")
    entry = {"model_conds": {"num_video_frames": comfy.conds.CONDConstant(4)}}
    call = feature.Call(None, None, [[entry], None], torch.zeros(8, 4, 8, 8), torch.ones(8), {})
    assert at_once.windows_at_once(4, call, [[0, 1], [1, 2]]) == 1
    call = feature.Call(None, None, [[{"model_conds": {}}], None], torch.zeros(8, 4, 8, 8), torch.ones(8), {})
    assert at_once.windows_at_once(4, call, [[0, 1], [1, 2]]) == 4
