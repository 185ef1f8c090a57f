"""What the search of ComfyUI's front end lists first."""

from __future__ import annotations

import pytest

NAMES = "[...document.querySelectorAll('[data-testid=result-item]')].map(item => item.textContent)"
# Between a checkpoint and its sampler.
FIRST = ("AnimateDiff: Load Model", "AnimateDiff: Apply Model", "AnimateDiff: Use Evolved Sampling")


@pytest.fixture
def search(page, open_search):
    """`search("words", count)`: the first nodes that the search box lists."""
    open_search(page)

    def find(words: str, count: int) -> list[str]:
        page.get_by_role("combobox").fill(words)
        page.get_by_test_id("result-item").first.wait_for()
        return page.evaluate(NAMES)[:count]

    return find


def test_animatediff_lists_the_three_nodes_of_a_first_workflow_first(search):
    assert [name.startswith(first) for name, first in zip(search("animatediff", 3), FIRST, strict=True)] == [True] * 3


@pytest.mark.parametrize(
    ("old_name", "name"),
    [
        ("Load AnimateDiff Model", "AnimateDiff: Load Model"),
        ("Apply AnimateDiff Model", "AnimateDiff: Apply Model"),
        ("Use Evolved Sampling", "AnimateDiff: Use Evolved Sampling"),
        ("AnimateDiff Loader", "All-in-One AnimateDiff Loader"),
    ],
)
def test_names_that_people_know_find_the_nodes(search, old_name, name):
    assert search(old_name, 1)[0].startswith(name)
