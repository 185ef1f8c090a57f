"""Where a run stops for injected pictures: the segments of its schedule."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# timesteps of ten steps of the scheduler "normal", and those of percents
TIMESTEPS = [999, 888, 777, 666, 555, 444, 333, 222, 111, 0, 0]


def at(percent: float) -> int:
    return 999 if percent <= 0 else round((1 - percent) * 999)


@pytest.fixture
def segments(pack):
    """`segments([(percent, steps), …])`: the first sigma of each segment and how many it has, and the picture behind it."""
    module = pack.submodule("sampling.image_injection.segments")

    def cut(pictures, timesteps=TIMESTEPS):
        found = module.segments(timesteps, [at(percent) for percent, _ in pictures], [steps for _, steps in pictures])
        return [(one.first, one.last - one.first + 1, one.entry) for one in found]

    return cut


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [
        ([(0.5, 1)], [(0, 6, 0), (5, 6, None)]),
        ([(0.5, 3)], [(0, 6, 0), (5, 2, 0), (6, 2, 0), (7, 4, None)]),
        ([(0.0, 1)], [(0, 2, 0), (1, 10, None)]),
        ([(0.3, 1), (0.6, 2)], [(0, 4, 0), (3, 4, 1), (6, 2, 1), (7, 4, None)]),
    ],
)
def test_segments_are_those_of_the_reference(segments, pictures, expected):
    assert segments(pictures) == expected


def test_two_pictures_at_one_place_are_laid_in_after_one_step_each(segments):
    assert segments([(0.5, 1), (0.5, 1)]) == [(0, 6, 0), (5, 2, 1), (6, 5, None)]


@pytest.mark.parametrize("percent", [0.0, 0.1, 1.0])
def test_pictures_outside_of_the_run_are_left_out(segments, percent):
    """A later stage, which ends before the clip is finished."""
    stage = TIMESTEPS[3:7]
    assert segments([(percent, 1)], stage) == [(0, 4, None)]


@pytest.mark.parametrize("steps", [1, 2])
def test_no_picture_without_a_step_before_and_behind_it(segments, steps):
    found = segments([(0.0, 5)], TIMESTEPS[: steps + 1])
    assert found == ([(0, 2, None)] if steps == 1 else [(0, 2, 0), (1, 2, None)])


def by_the_pseudo_code(timesteps, starts, steps):
    """The same from lists that get shorter, as (first sigma, number of sigmas, picture)."""
    found, rest, offset = [], list(timesteps), 0
    for entry, (start, times) in enumerate(zip(starts, steps, strict=True)):
        if len(rest) <= 2:
            break
        if start > timesteps[0] or start < timesteps[-1]:
            continue
        while times > 0 and len(rest) > 2:
            places = [i for i in range(1, len(rest) - 1) if rest[i] <= start]
            if not places:
                break
            found.append((offset, places[0] + 1, entry))
            rest, offset, times = rest[places[0] :], offset + places[0], times - 1
    return [*found, (offset, len(rest), None)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(0, 999), min_size=2, max_size=12, unique=True).map(lambda found: sorted(found, reverse=True)),
    st.lists(st.tuples(st.integers(0, 999), st.integers(1, 4)), max_size=5),
)
def test_segments_follow_the_rule(pack, timesteps, pictures):
    pictures = sorted(pictures, reverse=True)
    starts, steps = [start for start, _ in pictures], [count for _, count in pictures]
    segments = pack.submodule("sampling.image_injection.segments").segments
    found = [(one.first, one.last - one.first + 1, one.entry) for one in segments(timesteps, starts, steps)]
    assert found == by_the_pseudo_code(timesteps, starts, steps)


def test_any_number_of_repetitions_ends_with_the_run(segments):
    assert len(segments([(0.0, 9007199254740991)])) == len(TIMESTEPS) - 1
