"""Objectives, drawing of clips and low-rank pairs, by themselves."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="session")
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


@pytest.fixture
def draw(training):
    """`draw(clips, batches, clips in a batch, …)`: the picks of so many batches, one behind the other."""

    def many(clips, batches: int, count: int, frames: int = 5, caption_dropout: float = 0.0, seed: int = 0):
        epoch, generator = training("clips").Epoch(), torch.Generator().manual_seed(seed)
        drawn = []
        for _ in range(batches):
            picks, epoch = clips.draw(epoch, count, frames, caption_dropout, generator)
            drawn.append(picks)
        return drawn

    return many


@pytest.fixture
def of_sizes(training):
    """Clips of one frame each, of the given widths."""

    def make(*widths: int):
        latents = [{"samples": torch.zeros(1, 4, 1, width)} for width in widths]
        return training("clips").Clips.of(latents, conditionings=1, frames=1)

    return make


def test_a_step_takes_consecutive_frames_of_one_clip(clips, draw):
    starts = set()
    for picks in draw(clips, 100, 3):
        batch = clips.batch(picks, frames=5)
        assert batch.latents.shape == (3, 5, 4, 2, 2)
        for latents, conditioning in zip(batch.latents, batch.conditionings, strict=True):
            numbers = latents[:, 0, 0, 0]
            assert torch.equal(numbers.diff(), torch.ones(4))
            assert numbers[0] // 100 == conditioning  # its own caption
            starts.add(int(numbers[0]))
    assert starts == {0, 100, 101, 102, 103, 104}


def test_every_clip_is_seen_once_in_an_epoch_and_in_a_new_order_in_each(of_sizes, draw):
    clips = of_sizes(*[2] * 20)
    for count in (1, 3, 8):  # 3 and 8 go over the end of an epoch
        seen = [pick.index for picks in draw(clips, 60, count, frames=1) for pick in picks]
        epochs = [tuple(seen[at : at + 20]) for at in range(0, len(seen) - 20, 20)]
        assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
        assert len(set(epochs)) == len(epochs)
    first, other = (draw(clips, 20, 1, frames=1, seed=seed) for seed in (0, 1))
    assert first != other
    assert first == draw(clips, 20, 1, frames=1)


@given(
    widths=st.lists(st.integers(1, 3), min_size=1, max_size=12),
    count=st.integers(1, 9),
    batches=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_clips_of_several_sizes_have_their_turns_too(training, widths, count, batches, seed):
    """Whatever a batch takes ahead of its time: what is left of the epoch, and what was taken of the next, add up for every clip."""
    module = training("clips")
    latents = tuple(torch.zeros(1, 4, 1, width) for width in widths)
    clips = module.Clips(latents, (0,) * len(widths), 1)
    epoch, generator = module.Epoch(), torch.Generator().manual_seed(seed)
    seen: Counter = Counter()
    for _ in range(batches):
        picks, epoch = clips.draw(epoch, count, 1, 0.0, generator)
        chosen = [pick.index for pick in picks]
        assert len(chosen) == count
        (width,) = {widths[index] for index in chosen}
        alike = widths.count(width)
        assert max(Counter(chosen).values()) == -(-count // alike)  # none twice before all others of its size
        seen.update(chosen)
        turns = {seen[clip] - epoch.ahead.get(clip, 0) + (clip in epoch.coming) for clip in range(len(widths))}
        assert len(turns) == 1
        assert len(set(epoch.coming)) == len(epoch.coming)
        again = module.Epoch.of_state(epoch.state())
        assert (again.coming, dict(again.ahead)) == (epoch.coming, dict(epoch.ahead))


def test_a_size_comes_up_as_often_as_it_has_clips(of_sizes, draw):
    drawn = draw(of_sizes(2, 3, 3, 3), 400, 3, frames=1)
    assert 99 <= sum(picks[0].index == 0 for picks in drawn) <= 101


def test_captions_are_dropped_as_often_as_asked(clips, draw):
    drawn = [pick.conditioning for picks in draw(clips, 500, 2, caption_dropout=0.1) for pick in picks]
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
