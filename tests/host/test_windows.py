"""Sliding windows through the host's sampler, on tiny networks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F


def clip_noise(frames: int) -> torch.Tensor:
    return torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def context(pack):
    """`context("standard_static", 4, overlap=2, fuse="flat", ...)`: one entry of CONTEXT_OPTIONS."""
    windows, options = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")

    def make(schedule="standard_static", length=4, overlap=2, stride=1, closed=False, fuse="flat", **changes):
        return options.Context(windows.WindowOptions(schedule, length, overlap, stride, closed), fuse, **changes)

    return make


@pytest.fixture
def windowed(pack, new_model, new_motion):
    """`windowed(*contexts)`: a MODEL with a tiny motion model and these context options."""
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate

    def make(*contexts, model=None, **motion_options):
        applied = motion.apply(new_motion(**motion_options), motion.MotionSettings())
        return animate(model or new_model(), applied, "autoselect", contexts)

    return make


@pytest.fixture
def small(pack, new_model, new_motion, layouts):
    """`small(*contexts)`: the same, on the smallest of the UNets."""
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    model = new_model(layouts["unusual"])
    applied = motion.apply(new_motion(layouts["unusual"]), motion.MotionSettings())
    return lambda *contexts: animate(model, applied, "autoselect", contexts)


@pytest.fixture
def frames_seen(pack):
    """`frames_seen(model)`: the list to which each UNet call adds the frames it was given (from "ad_params")."""

    def watch(model) -> list:
        seen = []

        def wrapper(apply_model, arguments):
            seen.append(arguments["c"]["transformer_options"]["ad_params"])
            return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

        model.set_model_unet_function_wrapper(wrapper)
        return seen

    return watch


def test_windows_side_by_side_are_clips_of_their_own(windowed, context, sample):
    """Batched windows share nothing: each is what its own noise would have become."""
    noise = clip_noise(8)
    clip = sample(windowed(context("batched", 4, 0)), noise=noise)
    alone = [sample(windowed(), noise=of_window) for of_window in noise.split(4)]
    torch.testing.assert_close(clip, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_other_packs_learn_which_frames_they_are_asked_for(windowed, context, sample, frames_seen):
    model = windowed(context("standard_static", 4, 2))
    seen = frames_seen(model)
    sample(model, frames=8, steps=1)
    assert [call["sub_idxs"] for call in seen] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    assert {(call["full_length"], call["context_length"]) for call in seen} == {(8, 4)}


def test_short_clips_are_not_cut(windowed, context, sample, frames_seen):
    model = windowed(context("standard_static", 8, 2))
    seen = frames_seen(model)
    plain = sample(windowed(), frames=8, steps=1)
    assert torch.equal(sample(model, frames=8, steps=1), plain)
    assert {call["sub_idxs"] for call in seen} == {None}
    equal = windowed(context("standard_static", 8, 2, use_on_equal_length=True))
    seen = frames_seen(equal)
    sample(equal, frames=8, steps=1)
    assert [call["sub_idxs"] for call in seen] == [list(range(8))]


def test_uniform_windows_move_from_step_to_step(windowed, context, sample, frames_seen):
    model = windowed(context("looped_uniform", 4, 0))
    seen = frames_seen(model)
    sample(model, frames=8, steps=2)
    assert [call["sub_idxs"] for call in seen] == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7], [0, 1, 2, 3]]


def test_contexts_follow_each_other(windowed, context, sample, frames_seen):
    model = windowed(context("batched", 4, 0), context("batched", 8, 0, start_percent=0.5))
    seen = frames_seen(model)
    sample(model, frames=8, steps=4)
    lengths = [call["context_length"] for call in seen]
    assert lengths[0] == 4
    assert lengths[-1] == 8
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("step", [0, 2])  # of three: at noise above 4, where weights stop changing, and below
def test_fuse_methods_weigh_what_each_window_would_have_become(small, context, sample, pack, step):
    """A single step from its noise to none is a weighted mean of the same step in each window alone."""
    import comfy.samplers

    fuse, noise = pack.submodule("sampling.windows.fuse"), clip_noise(11)
    options = {"steps": 3, "start_step": step, "last_step": step + 1, "force_full_denoise": True}
    windows = [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7], [6, 7, 8, 9, 10]]
    alone = [sample(small(), noise=noise[window], **options) for window in windows]
    for method in fuse.NAMES:
        model = small(context("standard_static", 5, 2, fuse=method))
        found = sample(model, noise=noise, **options)
        sigma = float(comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 3)[step])
        chance = fuse.FuseContext(11, overlap=2, sigma=sigma, generator=torch.Generator().manual_seed(3))
        total, weights = torch.zeros(11, 4, 8, 8, dtype=torch.float64), torch.zeros(11, 1, 1, 1, dtype=torch.float64)
        for window, clip in zip(windows, alone, strict=True):
            weight = fuse.relative_bias(window) if method == "relative" else fuse.fuse_weights(method, window, chance)
            total[window] += clip * weight.double().view(-1, 1, 1, 1)
            weights[window] += weight.double().view(-1, 1, 1, 1)
        error = (found - total / weights).abs().max() / found.abs().max()
        assert error < 1e-4, method


@pytest.mark.parametrize("method", ["🔬random", "relative"])
def test_a_second_run_blends_alike(small, context, sample, method):
    model = small(context("standard_static", 5, 2, fuse=method))
    assert torch.equal(sample(model, frames=11), sample(model, frames=11))


def test_joint_group_norm_is_over_the_frames_of_each_window(pack, windowed, context, new_motion, new_model, sample):
    """Of six frames in windows of four, the last window has two. The norms by hand: PyTorch's, over five axes."""
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    motion_model, noise = new_motion(), clip_noise(6)
    applied = motion.apply(motion_model, motion.MotionSettings())
    joint = animate(new_model(), applied, "autoselect", (context("batched", 4, 0),), apply_v2_properly=False)
    found = sample(joint, noise=noise)

    model = new_model()
    separate = animate(model, applied, "autoselect")
    apart = torch.cat([sample(separate, noise=of_window) for of_window in noise.split(4)])
    assert not torch.allclose(found, apart, rtol=1e-2, atol=1e-2)

    def over_all_frames(norm, arguments, _):
        (x,) = arguments
        clips = x.unflatten(0, (-1, frames)).transpose(1, 2)
        return F.group_norm(clips, norm.num_groups, norm.weight, norm.bias, norm.eps).transpose(1, 2).flatten(0, 1)

    layers = [*model.model.modules(), *motion_model.model.modules()]
    norms = [layer for layer in layers if isinstance(layer, torch.nn.GroupNorm)]
    assert len(norms) > 60
    for norm in norms:
        norm.register_forward_hook(over_all_frames)
    expected = []
    for of_window in noise.split(4):
        frames = len(of_window)  # of the hooks
        expected.append(sample(separate, noise=of_window))
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_views_of_all_frames_are_windows_inside_the_motion_model(windowed, context, pack, sample):
    """Both attentions see the frames of a view only; what they give is averaged before the feed-forward network."""
    windows, options = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    views = options.ViewOptions(windows.WindowOptions("standard_static", 4, 2), "flat")
    only = windowed(context("view_as_context", 0, 0, views=views), frames=4)  # a motion model of 4 positions
    clip = sample(only, frames=8)

    def in_views(block, arguments, _):
        x, inputs, _ = arguments
        total, count = torch.zeros_like(x, dtype=torch.float64), torch.zeros(8, 1, dtype=torch.float64)
        for view in ([0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]):
            attended = x[:, view]
            for norm, attention in zip(block.norms, block.attention_blocks, strict=True):
                attended = attended + attention(norm(attended), inputs, None)
            total[:, view] += attended
            count[view] += 1
        mean = (total / count).float()
        return mean + block.ff(block.ff_norm(mean))

    by_hand = windowed(frames=8)
    (motion_model,) = by_hand.get_additional_models_with_key("AnimateDiff")
    blocks = [module for module in motion_model.model.modules() if type(module).__name__ == "TemporalBlock"]
    for block in blocks:
        block.register_forward_hook(in_views)
    assert len(blocks) == 21
    expected = sample(by_hand, frames=8)
    # Views add positions behind the projections: the same to rounding (in float64: tests/unit/test_shared_windows.py), which
    # these two steps make 30 times larger.
    torch.testing.assert_close(clip, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert not torch.allclose(clip, sample(windowed(frames=8), frames=8), rtol=1e-2, atol=1e-2)

    whole = options.ViewOptions(windows.WindowOptions("standard_static", 8, 0), "flat", use_on_equal_length=True)
    one_view = sample(windowed(context("view_as_context", 0, 0, views=whole)), frames=8)
    plain = sample(windowed(), frames=8)
    torch.testing.assert_close(one_view, plain, rtol=0, atol=1e-5 * float(plain.abs().max()))


def test_windows_longer_than_the_motion_model_are_told(windowed, context, sample):
    with pytest.raises(ValueError, match="A context window of 6 frames is longer than the 4 frames"):
        sample(windowed(context("standard_static", 6, 2), frames=4), frames=12)
    later = (context("standard_static", 4, 2), context("standard_static", 12, 2, start_percent=0.5))
    with pytest.raises(ValueError, match="A context window of 12 frames is longer than the 4 frames"):
        sample(windowed(*later, frames=4), frames=12)


def test_later_windows_may_be_longer_than_a_motion_model_that_has_stopped_acting(
    pack, new_motion, windowed, context, new_model, sample
):
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    contexts = (context("standard_static", 4, 2), context("standard_static", 12, 2, start_percent=0.5))

    def model(end_percent: float):
        short = motion.apply(new_motion(name="short", frames=4), motion.MotionSettings(end_percent=end_percent))
        both = motion.apply(new_motion(frames=12), motion.MotionSettings(start_percent=0.5), short)
        return animate(new_model(), both, "autoselect", contexts)

    # the same in two runs: the short model in windows for two steps, then the other without windows
    noise = clip_noise(12)
    found = sample(model(0.5), noise=noise, steps=4)
    short = motion.apply(new_motion(name="short", frames=4), motion.MotionSettings())
    long = motion.apply(new_motion(frames=12), motion.MotionSettings())
    first, then = animate(new_model(), short, "autoselect", contexts[:1]), animate(new_model(), long, "autoselect")
    half = sample(first, noise=noise, steps=4, last_step=2)
    expected = sample(then, noise=torch.zeros_like(noise), latent=half, steps=4, start_step=2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for end_percent, steps in ((0.6, 4), (0.5, 3)):  # of 3 steps the second is at 0.5 exactly
        with pytest.raises(ValueError, match="12 frames is longer than the 4 frames that the motion model 'short'"):
            sample(model(end_percent), frames=12, steps=steps)


def test_a_linked_context_length_of_0_means_no_windows(windowed, context, sample):
    for schedule in ("standard_static", "batched"):
        assert torch.equal(sample(windowed(context(schedule, 0, 4)), frames=8), sample(windowed(), frames=8))


def test_an_overlap_as_long_as_the_windows_is_told_only_where_it_counts(pack, windowed, context, sample):
    options = context("standard_static", 8, 8)
    assert torch.equal(sample(windowed(options), frames=8), sample(windowed(), frames=8))
    with pytest.raises(ValueError, match="The overlap is 8, but windows are 8 frames long"):
        sample(windowed(options), frames=9)
    views = pack.submodule("sampling.windows.context").ViewOptions(options.windows, "flat")
    viewed = context("standard_static", 8, 2, views=views)  # a window is no longer than a view, so there are none
    assert torch.equal(
        sample(windowed(viewed), frames=12), sample(windowed(context("standard_static", 8, 2)), frames=12)
    )


def test_what_has_an_entry_for_each_frame_follows_the_window(pack):
    conditioning = pack.submodule("sampling.windows.conditioning")
    import comfy.conds

    entry = {
        "mask": torch.arange(8.0).view(8, 1, 1),
        "strength": 0.5,
        "area": (4, 4, 0, 0),
        "model_conds": {
            "c_crossattn": comfy.conds.CONDCrossAttn(torch.arange(8.0).view(8, 1, 1)),
            "c_concat": comfy.conds.CONDNoiseShape(torch.arange(8.0).view(8, 1, 1, 1)),
            "y": comfy.conds.CONDRegular(torch.zeros(1, 3)),
        },
    }
    (cond, nothing) = conditioning.conds_of_window([[entry], None], [6, 7, 0], 8, conditioning.WindowedControls())
    assert nothing is None
    (cut,) = cond
    assert cut["mask"].flatten().tolist() == [6, 7, 0]
    assert cut["model_conds"]["c_crossattn"].cond.flatten().tolist() == [6, 7, 0]
    assert cut["model_conds"]["c_concat"].cond.flatten().tolist() == [6, 7, 0]
    assert cut["model_conds"]["y"].cond.shape == (1, 3)
    assert cut["strength"] == 0.5
    assert cut["area"] == (4, 4, 0, 0)
    assert len(entry["mask"]) == 8


def test_a_chain_of_control_nets_follows_the_window(pack):
    import comfy.controlnet

    conditioning = pack.submodule("sampling.windows.conditioning")
    first, second = comfy.controlnet.ControlBase(), comfy.controlnet.ControlBase()
    hints = torch.arange(8.0).view(8, 1, 1, 1)
    first.set_cond_hint(hints)
    second.set_cond_hint(hints[:1]).set_previous_controlnet(first)
    controls = conditioning.WindowedControls()
    window = controls.for_window(second, [3, 4], 8)
    assert window.previous_controlnet.cond_hint_original.flatten().tolist() == [3, 4]
    assert len(window.cond_hint_original) == 1  # one picture serves all frames
    assert controls.for_window(second, [3, 4], 8) is window  # what the host computes for it is kept
    assert controls.for_window(second, [4, 5], 8) is not window
    assert len(first.cond_hint_original) == 8
    assert second.previous_controlnet is first
