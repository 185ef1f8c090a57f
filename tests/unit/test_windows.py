"""Context windows and fuse weights: the incumbent's numbers where they are right, and right everywhere."""

from __future__ import annotations

import math
import random

import pytest
import torch

# Where windows start, step by step, as seen in the incumbent. Schedule, frames, length, overlap, closed loop.
GOLDEN = {
    ("looped_uniform", 32, 16, 4, False): [[0, 12, 24], [16, 28, 8], [8, 20, 0], [24, 4, 16]],
    ("looped_uniform", 32, 16, 4, True): [[0, 12, 24], [16, 28, 8], [8, 20, 0], [24, 4, 16]],
    ("looped_uniform", 36, 16, 4, False): [[0, 12, 24], [18, 30, 6], [9, 21, 33], [27, 3, 15]],
    ("looped_uniform", 40, 16, 4, False): [[0, 12, 24], [20, 32, 4], [10, 22, 34], [30, 2, 14]],
    ("looped_uniform", 40, 16, 4, True): [[0, 12, 24, 36], [20, 32, 4, 16], [10, 22, 34, 6], [30, 2, 14, 26]],
    ("looped_uniform", 64, 16, 4, False): [
        [0, 12, 24, 36, 48],
        [32, 44, 56, 4, 16],
        [16, 28, 40, 52, 0],
        [48, 60, 8, 20, 32],
    ],
    ("looped_uniform", 20, 16, 4, False): [[0, 12], [10, 2], [5, 17]],
    ("standard_uniform", 32, 16, 4, False): [[0, 12, 16], [16, 0, 8], [8, 16, 0], [16, 0, 4]],
    ("standard_uniform", 36, 16, 4, False): [[0, 12, 20], [18, 20, 0, 6], [9, 20, 0], [20, 0, 3, 15]],
    ("standard_uniform", 40, 16, 4, False): [[0, 12, 24], [20, 24, 0, 4], [10, 22, 24, 0], [24, 0, 2, 14]],
    ("standard_uniform", 64, 16, 4, False): [
        [0, 12, 24, 36, 48],
        [32, 44, 48, 0, 4, 16],
        [16, 28, 40, 48, 0],
        [48, 0, 8, 20, 32],
    ],
    ("standard_uniform", 24, 8, 2, False): [[0, 6, 12, 16], [12, 16, 0, 6], [6, 12, 16, 0], [16, 0, 6, 12]],
    ("standard_uniform", 20, 16, 4, False): [[0, 4], [4, 0, 2], [4, 0], [4, 0]],
    ("standard_static", 32, 16, 4, False): [[0, 12, 16]],
    ("standard_static", 36, 16, 4, False): [[0, 12, 20]],
    ("standard_static", 40, 16, 4, False): [[0, 12, 24]],
    ("standard_static", 28, 16, 4, False): [[0, 12]],
    ("standard_static", 30, 16, 6, False): [[0, 10, 14]],
    ("batched", 40, 16, 0, False): [[0, 16, 32]],
}


@pytest.fixture(scope="module")
def windows(pack):
    return pack.submodule("sampling.windows.schedules")


@pytest.fixture(scope="module")
def fuse(pack):
    return pack.submodule("sampling.windows.fuse")


@pytest.mark.parametrize("case", GOLDEN, ids=str)
def test_windows_start_where_the_incumbents_do(windows, case):
    schedule, frames, length, overlap, closed = case
    options = windows.WindowOptions(schedule, length, overlap, closed_loop=closed)
    for step, starts in enumerate(GOLDEN[case]):
        found = windows.windows(frames, options, step)
        assert [window[0] for window in found] == starts
        for window in found:
            assert window == [(window[0] + i) % frames for i in range(len(window))]


def test_strides_are_the_incumbents_where_those_are_right(windows):
    looped, uniform = (windows.WindowOptions(f"{kind}_uniform", 8, 2, stride=2) for kind in ("looped", "standard"))
    ahead = [list(range(start, start + 8)) for start in (12, 0, 6)]
    odd = [3, 5, 7, 9, 11, 13, 15, 17]
    assert windows.windows(24, looped, 1) == [
        ahead[0],
        [18, 19, 20, 21, 22, 23, 0, 1],
        *ahead[1:],
        [13, 15, 17, 19, 21, 23, 1, 3],
        odd,
    ]
    assert windows.windows(24, uniform, 1) == [
        ahead[0],
        list(range(16, 24)),
        *ahead[1:],
        [9, 11, 13, 15, 17, 19, 21, 23],
        list(range(1, 9)),
        odd,
    ]


SCHEDULES = ["standard_static", "standard_uniform", "looped_uniform", "batched", "view_as_context"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_frame_is_covered_and_counts_and_no_index_is_out_of_range(windows, fuse, schedule):
    """10,000 options and steps by chance. (hypothesis takes a millisecond for each, most of a minute for all.)"""
    chance = random.Random(schedule)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10_000):
        frames, length = chance.randint(1, 160), chance.randint(1, 48)
        overlap, stride, step = chance.randrange(length), chance.randint(1, 8), chance.randint(0, 1000)
        options = windows.WindowOptions(schedule, length, overlap, stride, chance.random() < 0.5)
        found = windows.windows(frames, options, step)
        case = f"{frames} frames, {options}, step {step}"
        assert {index for window in found for index in window} == set(range(frames)), case
        if schedule != "view_as_context":
            assert max(map(len, found)) <= length, case
        # one window and method each; other tests take all methods
        window, method, sigma = chance.choice(found), chance.choice(fuse.NAMES), 20 * chance.random() ** 3
        context = fuse.FuseContext(frames, overlap, sigma, generator)
        weights = fuse.fuse_weights(method, window, context)
        assert len(weights) == len(window)
        assert 0 < weights.min() <= weights.max() < math.inf, f"{case}, {method}, sigma {sigma}"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_sum_of_the_weights_on_each_frame_is_positive_and_finite(windows, fuse, schedule):
    """Whatever the method: predictions are divided by it."""
    chance = random.Random(schedule)
    for method in fuse.NAMES:
        for _ in range(20):
            frames, length = chance.randint(1, 100), chance.randint(1, 32)
            options = windows.WindowOptions(schedule, length, chance.randrange(length), chance.randint(1, 4))
            context = fuse.FuseContext(frames, options.overlap, chance.choice((0.0, 1.0, 14.6)))
            total = torch.zeros(frames)
            for window in windows.windows(frames, options, chance.randint(0, 50)):
                relative = method == "relative"
                weights = fuse.relative_bias(window) if relative else fuse.fuse_weights(method, window, context)
                total.index_add_(0, torch.tensor(window), weights)
            assert 0 < total.min() <= total.max() < math.inf, (method, frames, options)


def test_an_overlap_as_long_as_the_windows_is_refused_in_words(windows):
    for schedule in ("standard_static", "standard_uniform", "looped_uniform"):
        options = windows.WindowOptions(schedule, length=16, overlap=16)
        with pytest.raises(windows.WindowError, match="Lower context_overlap"):
            windows.windows(17, options)
        assert windows.windows(15, options) == [list(range(15))], "nothing to cut, so the overlap does not count"
    assert windows.windows(17, windows.WindowOptions("batched", length=16, overlap=16))
    with pytest.raises(windows.WindowError, match="no context schedule 'uniform'"):
        windows.WindowOptions("uniform", length=16)


# Fuse weights of eight frames, as seen in the incumbent: method, sigma.
WEIGHTS = {
    ("pyramid", 0): [1, 2, 3, 4, 4, 3, 2, 1],
    ("flat", 0): [1] * 8,
    ("overlap-linear", 0): [0, 1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3, 0],
    ("🔬delayed reverse sawtooth", 0): [0.01, 0.01, 0.01, 4, 4, 3, 2, 1],
    ("🔬pyramid-sigma", 14.6): [1, 2, 3, 4, 4, 3, 2, 1],
    ("🔬pyramid-sigma", 2): [0.001, 0.001, 0.001, 4, 4, 0.001, 0.001, 0.001],
    ("🔬pyramid-sigma inverse", 0.1): [0.875, 1.85, 2.825, 4, 4, 2.825, 1.85, 0.875],
    ("🔬gauss-sigma", 14.6): [1.35333, 1.4044, 1.43951, 1.45739, 1.45739, 1.43951, 1.4044, 1.35333],
    ("🔬gauss-sigma", 2): [1.21952, 1.375, 1.48952, 1.55031, 1.55031, 1.48952, 1.375, 1.21952],
    ("🔬gauss-sigma", 0.1): [0.03899, 0.31311, 1.25571, 2.51468, 2.51468, 1.25571, 0.31311, 0.03899],
    ("🔬gauss-sigma inverse", 14.6): [0.00657, 0.13202, 0.97547, 2.6516, 2.6516, 0.97547, 0.13202, 0.00657],
    ("gauss-sigma inverse", 0.1): [1.35055, 1.40389, 1.44062, 1.45935, 1.45935, 1.44062, 1.40389, 1.35055],
}


@pytest.mark.parametrize("case", WEIGHTS, ids=str)
def test_fuse_weights_are_the_incumbents(fuse, case):
    method, sigma = case
    context = fuse.FuseContext(frames=100, overlap=4, sigma=sigma)
    found = fuse.fuse_weights(method, list(range(40, 48)), context)
    torch.testing.assert_close(found, torch.tensor(WEIGHTS[case], dtype=torch.float32), rtol=1e-4, atol=1e-5)


def by_definition(method: str, n: int, overlap: int, sigma: float, chance: list[float]) -> list[float]:
    """Weights of a window of ``n`` frames amid a clip (docs/behaviour.md), in double precision."""
    high_noise = min(sigma, 4.0) / 4.0
    top = (n + 1) // 2
    pyramid = [min(i + 1, n - i) for i in range(n)]

    def spike(share: float) -> list[float]:
        to = [top if height == top else -top for height in pyramid]
        return [min(max(share * a + (1 - share) * b, 0.001), top) for a, b in zip(pyramid, to, strict=True)]

    def bell(width: float) -> list[float]:
        heights = [math.exp(-(((i - (n - 1) / 2) / width) ** 2) / 2) for i in range(n)]
        norm = math.sqrt(sum(height * height for height in heights))
        return [max(top * height / norm, 1e-37) for height in heights]

    match method.removeprefix("🔬"):
        case "pyramid" | "relative":
            return pyramid
        case "flat":
            return [1.0] * n
        case "overlap-linear":
            # the ramp up goes from 0 to 1; that down is written last
            ramp = [1e-37 + (1 - 1e-37) * i / max(overlap - 1, 1) for i in range(overlap)]
            down = ramp[::-1] if overlap > 1 else [1.0]
            weights = ramp + [1.0] * (n - overlap)
            return weights[: n - overlap] + down if overlap else weights
        case "delayed reverse sawtooth":
            falling = list(range(top, 0, -1))
            plateau = [top] if n % 2 == 0 else []
            return [0.01] * (n - top - len(plateau)) + plateau + falling
        case "pyramid-sigma":
            return spike(high_noise)
        case "pyramid-sigma inverse":
            return spike(1 - high_noise)
        case "gauss-sigma":
            return bell(1 + 8 * high_noise)
        case "gauss-sigma inverse":
            return bell(1 + 8 * (1 - high_noise))
        case "random":
            return [0.001 + top * number for number in chance]
    raise AssertionError(method)


def test_fuse_weights_of_any_length_are_those_of_the_definition(fuse):
    for method in fuse.NAMES:
        for n in range(1, 129):
            for sigma in (0.0, 0.3, 4.0, 30.0):
                overlap = min(n, 7)
                generator = torch.Generator().manual_seed(n)
                context = fuse.FuseContext(frames=400, overlap=overlap, sigma=sigma, generator=generator)
                weights = fuse.fuse_weights(method, list(range(3, 3 + n)), context)
                chance = torch.rand(n, generator=torch.Generator().manual_seed(n)).tolist()
                expected = torch.tensor(by_definition(method, n, overlap, sigma, chance), dtype=torch.float32)
                torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-6, msg=f"{method}, {n}, {sigma}")
                assert weights.min() > 0, (method, n, sigma)


def test_ramps_are_only_where_the_clip_goes_on(fuse):
    context = fuse.FuseContext(frames=24, overlap=4)
    first, last = (fuse.fuse_weights("overlap-linear", w, context) for w in (list(range(8)), list(range(16, 24))))
    assert first[0] == 1
    assert first[-1] < 1e-30
    assert last[0] < 1e-30
    assert last[-1] == 1
    one = fuse.fuse_weights("overlap-linear", list(range(8, 16)), fuse.FuseContext(frames=24, overlap=1))
    assert one[0] < 1e-30
    assert one[-1] == 1, "linspace(1, 1e-37, 1): the earlier window has the frame"
    flat = fuse.fuse_weights("overlap-linear", list(range(8, 16)), fuse.FuseContext(frames=24, overlap=0))
    assert torch.equal(flat, torch.ones(8))


def test_chance_comes_from_the_generator(fuse):
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return fuse.fuse_weights("🔬random", list(range(8)), fuse.FuseContext(8, generator=generator))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_an_unknown_method_is_refused_in_words(fuse):
    with pytest.raises(fuse.UnknownFuseMethod, match="Choose one of pyramid"):
        fuse.fuse_weights("linear", [0, 1], fuse.FuseContext(2))


def test_the_relative_mean_pulls_most_in_the_middle(fuse):
    bias = fuse.relative_bias(list(range(10, 26)))
    expected = [max(0.01, 1 - abs(i - 17.5) / ((15 + 0.01) / 2)) for i in range(10, 26)]
    torch.testing.assert_close(bias, torch.tensor(expected, dtype=torch.float32))
    assert math.isclose(float(fuse.relative_bias([4])), 1.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"length": -3, "overlap": 0}, "Windows of -3 frames hold nothing. Set context_length"),
        ({"length": 0, "overlap": 4}, "Windows of 0 frames hold nothing. Set context_length"),
        ({"length": -3, "overlap": -4}, "Windows of -3 frames hold nothing. Set context_length"),
        ({"length": 8, "overlap": -4}, "The overlap is -4, so frames between the windows would be left out"),
        ({"length": 8, "overlap": 2, "stride": 0}, "The stride is 0, which makes no windows. Set context_stride"),
    ],
)
def test_options_that_make_no_windows_name_what_to_change(windows, changed, message):
    for schedule in ("standard_static", "standard_uniform", "looped_uniform"):
        with pytest.raises(windows.WindowError) as error:
            windows.windows(24, windows.WindowOptions(schedule, **changed))
        assert str(error.value).startswith(message)
    if changed["length"] < 1:
        with pytest.raises(windows.WindowError, match="hold nothing"):
            windows.windows(24, windows.WindowOptions("batched", **changed))
