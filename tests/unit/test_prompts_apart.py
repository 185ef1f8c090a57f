"""Which prompt a frame belongs to, and how far, where prompts are kept apart."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="module")
def apart(pack):
    return pack.submodule("sampling.prompts_apart")


@pytest.fixture(scope="module")
def shown(pack):
    """`shown(text, frames, compounding)`: the prompt of each frame."""
    grammar, prompts = pack.submodule("scheduling.grammar"), pack.submodule("scheduling.prompts")
    return lambda text, frames=0, compounding=False: prompts.prompt_of_each_frame(
        grammar.parse_prompts("prompts", text, frames), compounding
    )


def test_a_frame_belongs_to_the_prompt_that_it_shows_most_of(shown):
    assert "".join(shown('"0": "a", "4": "b"', 7)) == "aaabbbb"
    assert "".join(shown('"0:": "a", "4": "b"', 6)) == "aaaabb"
    # half-way belongs to the first
    assert "".join(shown('2 = "a", 4:6 = "b", 6 = "a"', 8)) == "aaaabbaa"


def test_where_changes_come_early_the_border_does_too(shown):
    """Frame 1 of 4 has a quarter of the second prompt either way, frame 2 a half or 0.625 (docs/behaviour.md, Scheduled texts)."""
    assert "".join(shown('"0": "a", "4": "b"', 6, compounding=True)) == "aabbbb"
    assert "".join(shown('"0": "a", "31": "b"', 32, compounding=True)).count("a") == 6


def test_values_in_a_prompt_do_not_make_it_another(apart, shown):
    frames = shown('"0": "zoom `x`", "7": "zoom `x`"', 8)
    assert set(apart.Apart.of(frames, 1.0, 1).prompts) == {0}


@pytest.mark.parametrize(
    ("transition", "expected"),
    [
        (0, [1, 1, 1, 1, 0, 0, 0, 0]),
        (1, [1, 1, 1, 1, 0, 0, 0, 0]),
        (2, [1, 1, 1, 0.75, 0.25, 0, 0, 0]),
        (4, [1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0]),
    ],
)
def test_a_transition_is_even_around_the_border(apart, transition, expected):
    """Each frame is one long: at the border of 4 frames, 2 of the 4 around it are of each prompt."""
    of = apart.Apart.of("aaaabbbb", 1.0, transition)
    found = of.belongs(range(8))
    torch.testing.assert_close(
        found, torch.tensor([expected, [1 - share for share in expected]], dtype=torch.float32).T
    )
    assert torch.equal(of.belongs([2, 3, 6]), found[[2, 3, 6]])


def test_a_prompt_that_comes_back_is_the_same_one(apart):
    of = apart.Apart.of(["a", "b", "a"], 4.0, 1)
    ties = of.ties(range(3)).values.flatten(1)
    torch.testing.assert_close(ties @ ties.T, torch.tensor([[4.0, 0, 4], [0, 4, 0], [4, 0, 4]]))


def test_neighbours_in_a_transition_are_tied_more_than_the_sides(apart):
    ties = apart.Apart.of("aaaabbbb", 1.0, 4).ties(range(8)).values.flatten(1)
    tied = ties @ ties.T
    torch.testing.assert_close(tied.diagonal(), torch.ones(8))
    assert (tied.diagonal(1) > 0.8).all()
    assert torch.equal(tied[:2, 6:], torch.zeros(2, 2))
    assert (tied[:-1, -1].diff() >= 0).all()


def test_as_many_prompts_as_there_are_channels_for(apart):
    assert len(set(apart.Apart.of([str(i) for i in range(64)], 1.0, 1).prompts)) == 64
    with pytest.raises(ValueError, match=r"65 different prompts, but keep_apart works with at most 64\. Set it to 0"):
        apart.Apart.of([str(i) for i in range(65)], 1.0, 1)


def test_what_several_conds_say_alike_counts_once(apart):
    one, other = apart.Apart.of("ab", 1.0, 1), apart.Apart.of("aab", 1.0, 1)
    entries = [{apart.KEY: one}, {}, {apart.KEY: apart.Apart.of("cd", 1.0, 1)}]
    assert apart.asked({"positive": entries, "negative": [{apart.KEY: other}], "middle": None}) == (one, other)


def test_features_stand_beside_each_other(pack):
    """Of different sizes, as those of the prompt (one place) and of a path (the picture)."""
    features = pack.submodule("motion_models.network.features").FrameFeatures
    flat, picture = torch.rand(3, 2, 1, 1), torch.rand(3, 1, 4, 6)
    for first, second in ((flat, picture), (picture, flat)):
        joined = features(first).beside(features(second)).values
        expected = torch.cat([one.expand(-1, -1, 4, 6) for one in (first, second)], 1)
        torch.testing.assert_close(joined, expected)
