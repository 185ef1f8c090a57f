"""Text2Video-Zero: how frames begin, by numbers worked out here; and a clip without any motion model."""

from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.fixture
def zero(pack):
    nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").served()}

    def put_on(model, motion_x=12.0, motion_y=-8.0, delta_t=0.06, attention=1.0):
        values = {"motion_x": motion_x, "motion_y": motion_y, "delta_t": delta_t, "attention": attention}
        return nodes["AnimateDiffText2VideoZero"].execute(model=model, **values).result[0]

    return put_on


@pytest.fixture
def start(pack):
    return pack.submodule("sampling.cross_frame.warped_start")


def test_pictures_move_and_are_mirrored_at_the_edge(start):
    picture = torch.arange(12).view(3, 4)
    assert start.moved(picture, 1, 0).tolist() == [[1, 0, 1, 2], [5, 4, 5, 6], [9, 8, 9, 10]]
    assert start.moved(picture, -2, 0).tolist() == [[2, 3, 2, 1], [6, 7, 6, 5], [10, 11, 10, 9]]
    assert start.moved(picture, 0, 1).tolist() == [[4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert start.moved(picture, 0, 5).tolist() == start.moved(picture, 0, 1).tolist()  # to and fro is four rows
    assert start.moved(picture, 0, 2).tolist() == [[8, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert start.moved(picture[:1, :1], 3, -3).tolist() == [[0]]


def test_how_far_frames_move(start):
    """12 pixels a frame are one and a half latent pixels."""
    assert [start.motion_of(k, 12.0, -8.0) for k in range(5)] == [(0, 0), (2, -1), (3, -2), (4, -3), (6, -4)]


def test_frames_begin_as_one_moving_picture(layouts, new_model, sample, zero):
    """From what the denoiser was asked for: three steps of DDIM on the first frame, then the clip itself."""
    model = zero(new_model(layouts["unusual"]))
    calls = []

    def watch(args):
        calls.append((args["input"].double(), args["denoised"].double(), float(args["sigma"][0])))
        return args["denoised"]

    model.set_model_sampler_post_cfg_function(watch)
    noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    sample(model, noise=noise, steps=2)
    assert len(calls) == 3 + 2

    sampling = model.model.model_sampling
    log_sigmas = sampling.sigmas.double().log().numpy()
    sigmas = np.exp(np.interp([999, 979, 959, 939], np.arange(1000), log_sigmas))
    assert [sigma for *_, sigma in calls[:3]] == pytest.approx(sigmas[:3].tolist(), rel=1e-4)

    x = noise[0].double() * (1 + sigmas[0] ** 2) ** 0.5  # the host's scale of a full denoise
    for (given, denoised, _), sigma, following in zip(calls, sigmas[:-1], sigmas[1:], strict=False):
        torch.testing.assert_close(given, x.expand(4, -1, -1, -1), rtol=1e-4, atol=1e-4)
        x = denoised[0] + (x - denoised[0]) * following / sigma
    begun = calls[3][0]
    torch.testing.assert_close(begun[0], noise[0].double() * (1 + sigmas[0] ** 2) ** 0.5, rtol=1e-4, atol=1e-4)
    added = (sigmas[0] ** 2 - sigmas[3] ** 2) ** 0.5
    wide = np.pad(x.numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")
    for k, (right, down) in enumerate([(2, -1), (3, -2), (4, -3)], start=1):
        picture = torch.from_numpy(wide[:, 4 - down : 12 - down, 4 - right : 12 - right].copy())
        torch.testing.assert_close(begun[k], picture + added * noise[k].double(), rtol=1e-4, atol=1e-3)


def test_without_motion_model_every_frame_attends_to_the_first(layouts, new_model, sample, zero):
    model = zero(new_model(layouts["unusual"]), delta_t=0.0)
    seen = []
    model.set_model_attn1_replace(lambda q, k, v, options: seen.append((k, v)) or v, "middle", 0)
    sample(model, frames=3, steps=1)
    for made in seen[0]:
        clips = made.unflatten(0, (-1, 3))
        assert torch.equal(clips, clips[:, :1].expand_as(clips))
        assert not torch.equal(clips[0], clips[1])  # positive and negative


def test_without_noise_of_their_own_frames_begin_as_the_first_one_moved(layouts, new_model, sample, zero):
    """A way of no length down and up again; in the picture all frames are then one, moved."""
    model = new_model(layouts["unusual"])
    begun = []
    model.set_model_sampler_post_cfg_function(lambda args: begun.append(args["input"]) or args["denoised"])
    noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    sample(zero(model, delta_t=0.0), noise=noise, steps=2)
    assert len(begun) == 2
    first = np.pad(begun[0][0].numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")
    for k, (right, down) in enumerate([(0, 0), (2, -1), (3, -2), (4, -3)]):
        moved = torch.from_numpy(first[:, 4 - down : 12 - down, 4 - right : 12 - right].copy())
        torch.testing.assert_close(begun[0][k], moved, rtol=1e-5, atol=1e-5)


def test_without_motion_and_noise_of_their_own_all_frames_are_the_first(layouts, new_model, sample, zero):
    model = new_model(layouts["unusual"])
    still = sample(zero(model, motion_x=0.0, motion_y=0.0, delta_t=0.0, attention=0.0))
    torch.testing.assert_close(still, sample(model)[:1].expand_as(still), rtol=1e-4, atol=1e-4)


def test_a_single_frame_is_as_without_it(layouts, new_model, sample, zero):
    model = new_model(layouts["unusual"])
    assert torch.equal(sample(zero(model), frames=1), sample(model, frames=1))


def test_later_stages_do_not_begin_anew(layouts, new_model, sample, zero):
    """A stage of KSamplerAdvanced without noise goes on from its latents."""
    model = new_model(layouts["unusual"])
    latent = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    options = {"noise": torch.zeros_like(latent), "latent": latent, "disable_noise": True, "start_step": 1}
    assert torch.equal(sample(zero(model, attention=0.0), **options), sample(model, **options))


def test_with_a_motion_model_and_one_after_another(layouts, new_model, new_motion, animate, sample, zero):
    plain = animate(new_model(layouts["unusual"]), new_motion(layouts["unusual"]))
    changed = zero(plain)
    before, first = sample(plain), sample(changed)
    assert torch.equal(sample(plain), before)
    assert torch.equal(sample(changed), first)
    assert not torch.allclose(first, before, atol=1e-2)


def test_one_node_takes_the_place_of_another(layouts, new_model, sample, zero):
    model = new_model(layouts["unusual"])
    off = {"motion_x": 0.0, "motion_y": 0.0, "delta_t": 0.0, "attention": 0.0}
    assert torch.equal(sample(zero(zero(model, motion_x=100.0), **off)), sample(zero(model, **off)))
