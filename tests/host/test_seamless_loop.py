"""Seamless Loop: shared windows all over the loop, and noise that knows no seam."""

from __future__ import annotations

import itertools

import pytest
import torch


@pytest.fixture(scope="module")
def nodes(pack) -> dict[str, type]:
    return {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}


@pytest.fixture
def loop(nodes):
    def loop(length=4, overlap=2, shared=0.0, **optional):
        inputs = {"context_length": length, "context_overlap": overlap, "shared_noise": shared}
        return nodes["AnimateDiffSeamlessLoop"].execute(**inputs, **optional).args

    return loop


@pytest.mark.parametrize("frames", [6, 8, 12])
def test_at_each_step_every_pair_of_neighbours_is_together_in_a_window(pack, loop, frames):
    """The last frame and the first as well; with open windows some pair is apart in every step of these clips."""
    contexts, _ = loop()
    schedules = pack.submodule("sampling.windows.schedules")
    windows_of = contexts[0].shared(frames)
    pairs = {(frame, (frame + 1) % frames) for frame in range(frames)}
    for step in range(16):
        windows = schedules.windows(frames, windows_of, step)
        assert {pair for window in windows for pair in itertools.pairwise(window)} == pairs


@pytest.mark.parametrize(
    ("frames", "begins"),
    [
        (1, [[0], [0]]),
        (2, [[0, 1], [0, 1]]),
        (8, [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]]),
        (16, [[0, 2, 4, 6, 8, 10, 12, 14], [1, 3, 5, 7, 9, 11, 13, 15]]),
    ],
)
def test_a_clip_as_long_as_a_window_or_shorter_begins_everywhere(pack, loop, frames, begins):
    """Windows of one UNet call, which hold all frames each."""
    contexts, _ = loop(length=16)
    schedules = pack.submodule("sampling.windows.schedules")
    windows_of = contexts[0].shared(frames)
    assert contexts[0].frames_attending(frames) == frames
    for step, expected in enumerate(begins):
        windows = schedules.windows(frames, windows_of, step)
        assert [window[0] for window in windows] == expected
        for window in windows:
            assert window == [(window[0] + i) % frames for i in range(frames)]


@pytest.mark.parametrize("length", [4, 16])
def test_a_clip_turned_round_in_its_loop_is_the_same_clip_turned_round(
    loop, nodes, new_model, new_motion, sample, length
):
    """Nothing in the windows tells where the clip begins: with noise turned by as much as they stand apart, the result is
    turned by as much."""
    contexts, settings = loop(length)
    (applied,) = nodes["ADE_ApplyAnimateDiffModelSimple"].execute(motion_model=new_motion()).args
    (model,) = (
        nodes["ADE_UseEvolvedSampling"]
        .execute(
            model=new_model(),
            beta_schedule="autoselect",
            m_models=applied,
            context_options=contexts,
            sample_settings=settings,
        )
        .args
    )
    noise = torch.randn((8, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    plain = sample(model, frames=8, steps=2, noise=noise)
    turned = sample(model, frames=8, steps=2, noise=noise.roll(2, 0))
    tolerance = 1e-5 * plain.std().item()  # of float32, whose values are in the hundreds here
    torch.testing.assert_close(turned, plain.roll(2, 0), rtol=1e-4, atol=tolerance)


def test_neighbours_share_as_much_noise_across_the_seam_as_elsewhere(loop):
    _, settings = loop(shared=0.5)
    latents = torch.zeros(12, 4, 32, 32)
    given = torch.randn(latents.shape, generator=torch.Generator().manual_seed(7))
    noise = settings.noise.noise(7, latents, given, None)
    assert noise.std() == pytest.approx(1.0, abs=0.02)
    ring = [torch.corrcoef(torch.stack([noise[i].flatten(), noise[(i + 1) % 12].flatten()]))[0, 1] for i in range(12)]
    # (1-w) own + w shared, over the root of the sum of squares: neighbours share w² / ((1-w)² + w²)
    assert torch.stack(ring) == pytest.approx(torch.full((12,), 0.5), abs=0.06)


def test_without_shared_noise_it_is_the_samplers(loop):
    _, settings = loop()
    given = torch.randn(3, 4, 8, 8)
    assert settings.noise.noise(1, torch.zeros_like(given), given, None) is given


def test_other_settings_stay(loop, nodes, pack):
    iterations = pack.submodule("sampling.noise.iterations").Iterations(3)
    (before,) = (
        nodes["ADE_AnimateDiffSamplingSettings"]
        .execute(batch_offset=0, noise_type="FreeNoise", seed_gen="comfy", seed_offset=5, iteration_opts=iterations)
        .args
    )
    _, after = loop(shared=0.25, sample_settings=before)
    assert after.iterations is iterations
    assert after.noise.noise_types == {"default", "constant"}
    assert before.noise.noise_types == {"FreeNoise"}


def test_more_than_all_of_the_noise_is_refused(loop):
    with pytest.raises(
        ValueError, match=r"shared_noise is 1\.5, but can be at most 1: 1 is the same noise for all frames"
    ):
        loop(shared=1.5)
