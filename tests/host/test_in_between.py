"""In-Between Frames: where the new frames are, and that core's sampler keeps the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def nodes(pack) -> dict[str, type]:
    return {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}


@pytest.fixture
def in_between(nodes):
    def in_between(latents, between=1, loop=False):
        latent, frames = (
            nodes["AnimateDiffInBetweenFrames"].execute(samples={"samples": latents}, between=between, loop=loop).args
        )
        assert frames == len(latent["samples"])
        return latent["samples"], latent["noise_mask"]

    return in_between


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("between", [1, 3])
def test_new_frames_lie_on_the_line_between_their_neighbours(in_between, between, loop):
    latents = torch.randn(5, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    found, mask = in_between(latents, between, loop)
    knots = np.concatenate([latents.numpy(), latents.numpy()[:1]]).astype(np.float64)
    step = between + 1
    total = 5 * step if loop else 4 * step + 1
    assert found.shape == (total, 4, 6, 8)
    for i in range(total):
        at, part = divmod(i, step)
        expected = knots[at] * (1 - part / step) + (knots[at + 1] * part / step if part else 0)
        np.testing.assert_allclose(found[i].numpy(), expected, atol=1e-6)
        assert mask[i].unique().tolist() == [float(part > 0)]
    assert torch.equal(found[::step], latents)
    assert mask.shape == (total, 1, 6, 8)


def test_a_single_frame_stays_alone_unless_it_loops(in_between):
    latents = torch.randn(1, 4, 6, 8)
    assert torch.equal(in_between(latents)[0], latents)
    assert len(in_between(latents, 2, loop=True)[0]) == 3


@pytest.mark.parametrize("windows", [False, True])
def test_the_sampler_keeps_the_frames_that_were_there(
    in_between, nodes, new_model, new_motion, positive, negative, windows
):
    """Through the host's KSampler; the new ones are made by the motion model, so they depend on it."""
    import nodes as host_nodes

    motion_model = new_motion()
    options = {}
    if windows:
        (contexts,) = nodes["ADE_StandardStaticContextOptions"].execute(context_length=4, context_overlap=2).args
        options["context_options"] = contexts
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    filled, mask = in_between(latents)

    def result(effect):
        (applied,) = (
            nodes["ADE_ApplyAnimateDiffModelSimple"].execute(motion_model=motion_model, effect_multival=effect).args
        )
        (model,) = (
            nodes["ADE_UseEvolvedSampling"]
            .execute(model=new_model(), beta_schedule="autoselect", m_models=applied, **options)
            .args
        )
        with torch.inference_mode():
            (latent,) = host_nodes.KSampler().sample(
                model, 3, 4, 7.5, "euler", "normal", positive, negative, {"samples": filled, "noise_mask": mask}, 0.6
            )
        return latent["samples"]

    animated, still = result(1.0), result(0.0)
    torch.testing.assert_close(animated[::2], latents, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(still[::2], latents, rtol=1e-5, atol=1e-5)
    assert ((animated - filled)[1::2].flatten(1).norm(dim=1) > 0.1).all()
    assert ((animated - still)[1::2].flatten(1).norm(dim=1) > 0.01).all()


def test_what_makes_no_clip_is_refused(in_between, pack):
    with pytest.raises(ValueError, match="that of a video model's"):
        in_between(torch.zeros(1, 4, 3, 8, 8))
    with pytest.raises(
        ValueError, match=r"2000 frames with 15 between each two are 31985; at most 10000.*Lower between"
    ):
        in_between(torch.zeros(2000, 1, 1, 1), 15)
    with pytest.raises(ValueError, match="between of In-Between Frames is 0, but has to be at least 1"):
        in_between(torch.zeros(2, 4, 8, 8), 0)
