"""Objectives, drawing of clips and low-rank pairs, by themselves."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def training(pack):
    return lambda name: pack.submodule(f"training.{name}")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_epsilon_is_the_mean_squared_error(training, generator):
    p, e = torch.randn(2, 3, 4, 5, 5), torch.randn(2, 3, 4, 5, 5)
    assert torch.allclose(training("objectives").epsilon(p, e, generator), ((p - e) ** 2).mean())


def test_appearance_debiased_loss_by_hand(training):
    p, e = torch.randn(2, 6, 4, 5, 5), torch.randn(2, 6, 4, 5, 5)
    loss = training("objectives").appearance_debiased
    k = int(torch.randint(6, (), generator=torch.Generator().manual_seed(3)))
    root = 2**0.5
    second = ((root * p - p[:, k : k + 1]) - (root * e - e[:, k : k + 1])) ** 2
    expected = ((p - e) ** 2).mean() + second.mean()
    assert torch.allclose(loss(p, e, torch.Generator().manual_seed(3)), expected)


def test_an_error_that_all_frames_share_costs_less_when_debiased(training):
    """What the second term is for: the same error in all frames is appearance, not motion."""
    noise = torch.randn(1, 8, 4, 6, 6)
    shared = torch.randn(1, 1, 4, 6, 6).expand_as(noise)
    own = torch.randn(1, 8, 4, 6, 6)

    def extra(error):
        loss = training("objectives").appearance_debiased(noise + error, noise, torch.Generator().manual_seed(0))
        return float(loss / (error**2).mean())

    assert extra(shared) < 0.5 * extra(own)


@pytest.fixture
def clips(training):
    """Two clips whose latents say which clip and frame they are."""

    def latent(clip: int, frames: int) -> dict:
        values = 100.0 * clip + torch.arange(frames)
        return {"samples": values.view(-1, 1, 1, 1).expand(-1, 4, 2, 2)}

    return training("clips").Clips.of([latent(0, 5), latent(1, 9)], conditionings=2, frames=5)


def test_a_step_takes_consecutive_frames_of_one_clip(clips, generator):
    starts = set()
    for _ in range(200):
        batch = clips.draw(clips=3, frames=5, caption_dropout=0.0, generator=generator)
        assert batch.latents.shape == (3, 5, 4, 2, 2)
        for latents, conditioning in zip(batch.latents, batch.conditionings, strict=True):
            numbers = latents[:, 0, 0, 0]
            assert torch.equal(numbers.diff(), torch.ones(4))
            assert numbers[0] // 100 == conditioning  # its own caption
            starts.add(int(numbers[0]))
    assert starts == {0, 100, 101, 102, 103, 104}


def test_a_batch_is_of_one_size_and_each_size_comes_as_often_as_it_has_clips(training, generator):
    latents = [{"samples": torch.zeros(4, 4, 2, width)} for width in (2, 3, 3, 3)]
    clips = training("clips").Clips.of(latents, conditionings=4, frames=4)
    drawn = [clips.draw(3, 4, 0.0, generator) for _ in range(400)]
    for batch in drawn:
        assert {number == 0 for number in batch.conditionings} == {batch.latents.shape[-1] == 2}
    assert 0.2 < sum(batch.latents.shape[-1] == 2 for batch in drawn) / len(drawn) < 0.3


def test_captions_are_dropped_as_often_as_asked(clips, generator):
    drawn = [c for _ in range(500) for c in clips.draw(2, 5, 0.1, generator).conditionings]
    assert 0.07 < drawn.count(clips.empty) / len(drawn) < 0.13
    assert clips.empty == 2


def test_one_caption_serves_all_clips(training):
    latents = [{"samples": torch.zeros(4, 4, 2, 2)}] * 3
    clips = training("clips").Clips.of(latents, conditionings=1, frames=4)
    assert clips.conditioning == (0, 0, 0)
    assert clips.empty == 1


def test_a_pair_begins_as_no_change_and_resumes_where_it_was(training):
    layers = {"a": torch.nn.Linear(6, 10)}
    low_rank = training("low_rank")
    pair = low_rank.new_pairs(layers, rank=4, alpha=2.0, seed=0, device=torch.device("cpu"))["a"]
    down, up = pair.result()
    assert down.shape == (4, 6)
    assert up.shape == (10, 4)
    assert not up.any()
    torch.nn.init.normal_(pair.up)
    down, up = pair.result()
    torch.testing.assert_close(up, pair.up.detach() * 0.5)  # alpha / rank is part of it
    other = low_rank.new_pairs(layers, rank=4, alpha=8.0, seed=1, device=torch.device("cpu"))["a"]
    other.resume((down, up))
    torch.testing.assert_close(other.result()[0], down)
    torch.testing.assert_close(other.result()[1], up)


def test_a_seed_means_the_same_weights(training):
    layers = {"a": torch.nn.Linear(6, 10), "b": torch.nn.Linear(6, 10)}
    new = training("low_rank").new_pairs
    first, again, other = (new(layers, 4, 4.0, seed, torch.device("cpu")) for seed in (0, 0, 1))
    assert torch.equal(first["b"].down, again["b"].down)
    assert not torch.equal(first["b"].down, other["b"].down)
    assert not torch.equal(first["a"].down, first["b"].down)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gate_that_keeps_less_is_the_same_gate(pack, dtype):
    gated = pack.submodule("motion_models.network.checkpointing").gated

    def plain(x):
        value, gate = x.chunk(2, dim=-1)
        return value * torch.nn.functional.gelu(gate)

    results = []
    for function in (plain, gated):
        x = torch.randn(11, 3, 16, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
        y = function(x * 1)
        (y.float() ** 3).sum().backward()
        results.append((y, x.grad))
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected)
