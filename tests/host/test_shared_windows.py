"""Shared windows and one motion through the host's sampler, on tiny networks."""

from __future__ import annotations

import pytest
import torch

FRAMES = 8
VERSIONS = {"v1": {"mid": False, "frames": 24}, "v2": {}, "v3": {"mid": False}}


@pytest.fixture
def nodes(pack):
    """Run a node by its id, as the server does; gives its outputs."""
    found = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    return lambda node_id, **inputs: found[node_id].execute(**inputs).result


@pytest.fixture
def shared(nodes):
    """`shared(length, overlap, ...)`: CONTEXT_OPTIONS of the node."""

    def make(context_length=4, context_overlap=2, **changes):
        inputs = {
            "schedule": "standard_static",
            "one_motion": 0.0,
            "cut_off": 0.25,
            "one_motion_end_percent": 1.0,
            "frames_at_once": 0,
            "skips_in_ram": False,
            **changes,
        }
        (contexts,) = nodes(
            "AnimateDiffSharedWindowsContextOptions",
            context_length=context_length,
            context_overlap=context_overlap,
            **inputs,
        )
        return contexts

    return make


@pytest.fixture
def animated(pack, new_model, new_motion):
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate

    def make(contexts=(), model=None, versions=("v2",), **settings):
        applied = ()
        for version in versions:
            applied = motion.apply(
                new_motion(name=version, **VERSIONS[version]), motion.MotionSettings(**settings), applied
            )
        return animate(model or new_model(), applied, "autoselect", contexts)

    return make


def assert_equal(found, expected, within=1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=within * float(expected.abs().max()))


@pytest.mark.parametrize("versions", [("v1",), ("v2",), ("v2", "v3")])
@pytest.mark.parametrize("at_once", [0, 3])
def test_a_window_that_covers_all_frames_is_plain_sampling(animated, shared, sample, versions, at_once):
    found = sample(animated(shared(FRAMES, 0, frames_at_once=at_once), versions=versions), frames=FRAMES)
    assert_equal(found, sample(animated(versions=versions), frames=FRAMES))


def test_windows_without_overlap_are_clips_of_their_own(animated, shared, sample):
    noise = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    found = sample(animated(shared(4, 0)), noise=noise)
    for half in (slice(0, 4), slice(4, 8)):
        assert_equal(found[half], sample(animated(), noise=noise[half]))


def test_shared_windows_are_not_the_views_that_are_blended_behind_all_attentions(animated, shared, nodes, sample):
    view = nodes("ADE_StandardStaticViewOptions", view_length=4, view_overlap=2, fuse_method="pyramid")[0]
    views_only = nodes("ADE_ViewsOnlyContextOptions", view_opts_req=view)[0]
    found, viewed = (sample(animated(contexts), frames=FRAMES) for contexts in (shared(), views_only))
    assert not torch.allclose(found, viewed, rtol=1e-3, atol=1e-3)


def test_one_motion_of_strength_0_is_none_and_ends_where_it_is_told(animated, shared, sample):
    def clip(**options):
        return sample(animated(shared(**options)), frames=FRAMES, steps=4)

    without = clip()
    half, whole = clip(one_motion=1.0, one_motion_end_percent=0.5), clip(one_motion=1.0)
    assert not torch.allclose(half, whole) and not torch.allclose(half, without)


@pytest.mark.parametrize(("name", "value"), [("one_motion", 1.5), ("cut_off", -0.1)])
def test_numbers_that_mean_nothing_are_told(shared, name, value):
    with pytest.raises(ValueError, match=name):
        shared(**{name: value})


def test_an_overlap_as_long_as_the_windows_is_told_before_a_model_runs(animated, shared, sample):
    with pytest.raises(ValueError, match="The overlap is 4, but windows are 4 frames long"):
        sample(animated(shared(4, 4)), frames=FRAMES)


def test_the_unet_is_as_it_was_after_chunks_even_if_it_fails(animated, shared, sample, new_model):
    model = new_model()
    unet = model.model.diffusion_model
    before = {name: dict(module.__dict__) for name, module in unet.named_modules()}
    sample(animated(shared(frames_at_once=3), model=model), frames=FRAMES)

    def fails(*args):
        raise RuntimeError("on purpose")

    handle = unet.middle_block[0].in_layers[2].register_forward_hook(fails)
    with pytest.raises(RuntimeError, match="on purpose"):
        sample(animated(shared(frames_at_once=3), model=model), frames=FRAMES)
    handle.remove()
    assert {name: "forward" in module.__dict__ for name, module in unet.named_modules()} == {
        name: "forward" in known for name, known in before.items()
    }


def test_where_the_whole_clip_decides_everything_its_positions_are_spread_over_it(
    pack, animated, shared, sample, new_model, new_motion_file
):
    """The same as Adjust PE (Sweetspot) without windows."""
    files, adjust = pack.submodule("motion_models.files.motion_model"), pack.submodule("motion_models.files.adjust")
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    spread = adjust.Adjustments(positions=(adjust.PositionAdjustment(cap=4, length=FRAMES),))
    adjusted = motion.apply(files.load_motion_model(new_motion_file(), spread), motion.MotionSettings())
    expected = sample(animate(new_model(), adjusted, "autoselect"), frames=FRAMES)
    assert_equal(sample(animated(shared(4, 2, one_motion=1.0, cut_off=1.0)), frames=FRAMES), expected, within=2e-5)
    closed = shared(4, 2, one_motion=1.0, cut_off=1.0, schedule="looped_uniform")
    assert not torch.allclose(sample(animated(closed), frames=FRAMES), expected, rtol=1e-2)


@pytest.mark.parametrize(
    ("device", "fit", "expected"), [("cpu", 7, 7), ("cpu", 1000, 128), ("meta", 1000, 1000), ("cpu", 0, 1)]
)
def test_as_many_pictures_at_a_time_as_fit_or_as_a_cpu_gains_by(pack, new_model, monkeypatch, device, fit, expected):
    memory, model, kept = pack.submodule("host.memory"), new_model().model, 10**6
    free = kept + memory.MARGIN * (fit + 0.5) * model.memory_required([1, 4, 8, 8])
    monkeypatch.setattr(memory.comfy.model_management, "get_free_memory", lambda device: free)
    assert memory.rows_that_fit(model, torch.empty(16, 4, 8, 8, device=device), kept) == expected


def test_chunks_are_of_what_fits(pack, animated, shared, sample, new_model, monkeypatch):
    model, seen = new_model(), set()
    expected = sample(animated(shared(), model=model), frames=FRAMES)
    monkeypatch.setattr(pack.submodule("sampling.motion.feature"), "rows_that_fit", lambda *args: 6)
    hook = model.model.diffusion_model.middle_block[0].in_layers[2].register_forward_pre_hook
    hook(lambda layer, args: seen.add(len(args[0])))
    assert_equal(sample(animated(shared(), model=model), frames=FRAMES), expected)
    assert seen == {6, 4}  # three frames of cond and uncond, and the two that are left
