"""Motion Amount on tiny UNets: it is the scale of keys and noise in one, and 1 is as without it."""

from __future__ import annotations

import math

import pytest
import torch


@pytest.fixture
def put_on(pack):
    (node,) = pack.submodule("nodes.sampling.motion_amount").NODES
    return lambda model, amount: node.execute(model=model, amount=amount).result[0]


@pytest.fixture
def feature(pack):
    return pack.submodule("sampling.motion_amount")


@pytest.fixture
def small(pack, layouts, new_model, new_motion):
    """`small(contexts, scale of one motion model, of another, …)`: an animated MODEL with the smallest of the UNets."""
    motion, evolved = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved")
    model = new_model(layouts["unusual"])

    def make(*scales, contexts=()):
        applied = ()
        for i, scale in enumerate(scales or (None,)):
            settings = motion.MotionSettings(scale=scale)
            applied = motion.apply(new_motion(layouts["unusual"], seed=i + 1), settings, applied)
        return evolved.animate(model, applied, "autoselect", contexts)

    return make


def noise(frames=4) -> torch.Tensor:
    return torch.randn((frames, 4, 8, 8), generator=torch.Generator().manual_seed(3))


def test_one_is_as_without_it(small, put_on, sample):
    assert torch.equal(sample(put_on(small(), 1.0)), sample(small()))


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.5, 2.0])
def test_it_is_scale_and_noise_in_one(small, put_on, feature, sample, amount):
    """Two motion models, one of which is scaled by itself, too."""
    one = feature.MotionAmount(amount)
    shared = feature.with_shared(noise(), 3, one.shared)
    expected = sample(small(one.scale, 0.5 * one.scale), noise=shared)
    made = sample(put_on(small(1.0, 0.5), amount))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(made, sample(small(1.0, 0.5)), atol=1e-2)


def test_runs_one_after_another_do_not_see_each_other(small, put_on, sample):
    model = small()
    plain, most = sample(model), sample(put_on(model, 2.0))
    assert torch.equal(sample(model), plain)
    assert torch.equal(sample(put_on(model, 2.0)), most)


def test_the_last_one_counts(small, put_on, sample):
    assert torch.equal(sample(put_on(put_on(small(), 0.0), 1.0)), sample(small()))


def test_windows_and_their_batches_get_it(pack, small, put_on, sample, alike_in_one_batch):
    windows, context = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    contexts = (context.Context(windows.WindowOptions("standard_static", 4, 2), "flat"),)
    made = alike_in_one_batch(
        lambda contexts: put_on(small(contexts=contexts), 0.0), lambda model: sample(model, frames=8, steps=2), contexts
    )
    assert not torch.allclose(made, sample(small(contexts=contexts), frames=8, steps=2), atol=1e-2)


def test_a_stage_that_adds_no_noise_gets_none(small, put_on, sample):
    """As the second KSampler (Advanced): it goes on from latents."""
    stage = {"start_step": 1, "disable_noise": True, "noise": torch.zeros(4, 4, 8, 8), "latent": 5 * noise()}
    made = sample(put_on(small(0.5), 2.0), **stage)
    scale = put_on(small(), 2.0).get_attachment("AnimateDiff")[-1].scale
    torch.testing.assert_close(made, sample(small(0.5 * scale), **stage), rtol=1e-4, atol=1e-4)


def test_a_model_without_motion_is_told(layouts, new_model, put_on, sample):
    with pytest.raises(ValueError, match="Connect it behind Use Evolved Sampling, with a motion model"):
        sample(put_on(new_model(layouts["unusual"]), 2.0))


@pytest.mark.parametrize("amount", [-0.1, 2.5, math.nan])
def test_what_cannot_be_meant_is_told(small, put_on, amount):
    with pytest.raises(ValueError, match=r"amount( of Motion Amount)? is"):
        put_on(small(), amount)
