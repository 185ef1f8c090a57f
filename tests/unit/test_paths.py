"""Motion paths: the text, what masks and tracks become, places on the way, and the noise that moves along."""

import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="session")
def places(pack):
    module = pack.submodule("scheduling.places")
    return lambda name, text: module.parse_places(name, text, module.boxes(2.0, (0.02, 2.0)))


@pytest.fixture(scope="session")
def paths(pack):
    return pack.submodule("sampling.paths.path")


@pytest.fixture(scope="session")
def words(pack):
    return pack.submodule("sampling.paths.words")


@pytest.fixture(scope="session")
def along(pack):
    return pack.submodule("sampling.paths.noise").along


@pytest.fixture(scope="session")
def moving(paths, places):
    """A path out of a text, with boxes of a size."""

    def make(text: str, size: float = 0.5, ease: str = "linear", word: str = ""):
        return paths.from_numbers(places("places", text), size, size, ease, word)

    return make


SLOW_MACHINES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SAME = ((0, (0.2, 0.5)), (15, (0.8, 0.5)))


@pytest.mark.parametrize(
    "text",
    [
        "0: 0.2,0.5  15: 0.8,0.5",
        "15:.8 , .5\n0: 2e-1,0.5",
        " 0 : 0.2,0.5 ;15: 0.8,0.5; ",
        "{0: 0.2,0.5;\n\n15: 0.8,0.5 }",
    ],
)
def test_places_are_read_in_any_spelling_and_order(places, text):
    assert places("places", text) == SAME


def test_a_place_may_have_a_size_of_its_own(places, paths):
    path = paths.from_numbers(places("places", "0: 0,0  1: 0,0,.4  2: 0,0,.4,.6"), 0.1, 0.2, "linear")
    expected = [[0, 0, 0.1, 0.2], [0, 0, 0.4, 0.4], [0, 0, 0.4, 0.6]]
    torch.testing.assert_close(path.at(3), torch.tensor([expected]))


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("", "line 1, character 1", "a frame number between 0 and 9999"),
        ("0: 0.2,0.5 x: 1,1", "line 1, character 12", "a frame number between 0 and 9999"),
        ("0: 0.2,0.5\n0: 1,1", "line 2, character 1", "a frame that was not named before"),
        ("10000: 1,1", "line 1, character 1", "a frame number between 0 and 9999"),
        ("0 0.2,0.5", "line 1, character 3", "':' and a place behind 0"),
        ("0: 0.2", "line 1, character 7", "a comma and y"),
        ("0: 0.2,", "line 1, character 8", "a number"),
        ("0: 256,256", "line 1, character 4", "a share of the picture from -2 to 2 (not pixels)"),
        ("0: 0.5,0.5,128", "line 1, character 12", "a share of the picture from 0.02 to 2 (not pixels)"),
        ("0: 1,1,1,1,1", "line 1, character 11", "a blank and the next frame"),
    ],
)
def test_errors_in_the_text_point_at_the_character(pack, places, text, where, expected):
    with pytest.raises(pack.submodule("scheduling.text_error").TextError, match=re.escape(expected)) as raised:
        places("places", text)
    assert where in str(raised.value)


THOUSANDTHS = st.integers(-2000, 2000).map(lambda x: x / 1000)


@SLOW_MACHINES
@given(st.dictionaries(st.integers(0, 9999), st.tuples(THOUSANDTHS, THOUSANDTHS), min_size=1, max_size=6))
def test_what_is_written_is_read(places, entries):
    text = "  ".join(f"{frame}: {x},{y}" for frame, (x, y) in entries.items())
    assert places("places", text) == tuple(sorted(entries.items()))


def test_boxes_stand_still_outside_of_the_keys_and_move_evenly_between(moving):
    boxes = moving("2: 0.2,0.5  6: 0.6,0.1").at(9)[0]
    expected = [0.2, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6]
    torch.testing.assert_close(boxes[:, 0], torch.tensor(expected))
    torch.testing.assert_close(boxes[:, 1], 0.7 - boxes[:, 0])


def test_ease_changes_the_speed_and_not_the_ends(moving):
    even, eased = (moving("0: 0,0  8: 1,1", ease=ease).at(9)[0, :, 0] for ease in ("linear", "ease_in"))
    assert even[[0, -1]].tolist() == eased[[0, -1]].tolist() == [0, 1]
    assert (eased[1:-1] < even[1:-1]).all()


def test_several_objects_are_one_path(moving):
    both = moving("0: 0.7,0.7", word="dog").and_also(moving("0: 0.2,0.2", word="cat"))
    assert [one.word for one in both.objects] == ["cat", "dog"]
    assert both.at(3).shape == (2, 3, 4)


def test_pixels_in_place_of_shares_are_told(paths):
    with pytest.raises(paths.PathError, match="shares of the picture, not pixels"):
        paths.Box(256, 256, 0.5, 0.5)
    with pytest.raises(paths.PathError, match=r"from 0\.02 to 2"):
        paths.Box(0.5, 0.5, 0.5, 128)


def test_masks_give_the_boxes_around_what_is_white_and_gaps_are_bridged(paths):
    masks = torch.zeros(5, 20, 40)
    for frame in (0, 2, 4):
        masks[frame, 5:15, 4 * frame : 4 * frame + 8] = 1
    boxes = paths.from_masks(masks).at(5)[0]
    torch.testing.assert_close(boxes[:, 0], torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))
    torch.testing.assert_close(boxes[:, 1:], torch.tensor([0.5, 0.2, 0.5]).expand(5, 3))
    wide = paths.from_masks(masks, margin=0.25).at(5)[0]
    torch.testing.assert_close(wide[:, 2:], 1.5 * boxes[:, 2:])
    with pytest.raises(paths.PathError, match="All masks are black"):
        paths.from_masks(torch.zeros(3, 8, 8))


@pytest.fixture(scope="session")
def from_clip(pack):
    return pack.submodule("sampling.paths.found").from_clip


@pytest.mark.parametrize("kind", ["one after another", "with a pause"])
def test_what_moves_in_a_clip_is_found(from_clip, kind):
    """A box of 10 x 6 pixels over a ground that is anything but plain, two pixels a frame."""
    ground = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    clip = ground.repeat(9, 1, 1, 1)
    ways = [4 + 2 * (min(i, 4) + max(0, i - 6) if kind == "with a pause" else i) for i in range(9)]
    for frame, left in zip(clip, ways, strict=True):
        frame[:, 12:18, left : left + 10] = 0.9
    boxes = from_clip(clip).at(9)[0] * torch.tensor([60, 40, 60, 40])
    # around a pause the way is rounded off
    close = 1.2 if kind == "with a pause" else 0.4
    torch.testing.assert_close(boxes[:, 0], torch.tensor(ways) + 5.0, rtol=0, atol=close)
    torch.testing.assert_close(boxes[:, 1], torch.full((9,), 15.0), rtol=0, atol=0.5)
    torch.testing.assert_close(boxes[:, 2], torch.full((9,), 10.0), rtol=0, atol=2.5)
    torch.testing.assert_close(boxes[:, 3], torch.full((9,), 6.0), rtol=0, atol=1)
    wide = from_clip(clip, margin=0.25).at(9)[0]
    torch.testing.assert_close(wide[:, 2:], 1.5 * boxes[:, 2:] / torch.tensor([60, 40]))


def test_a_clip_without_motion_is_told(from_clip, paths):
    for clip, message in (
        (torch.ones(4, 3, 8, 8), "Nothing moves in the clip"),
        (torch.ones(1, 3, 8, 8), "has 1 frames"),
    ):
        with pytest.raises(paths.PathError, match=message):
            from_clip(clip)


def test_tracks_of_the_host_become_the_way_of_their_middle(paths):
    middle = torch.stack([torch.linspace(80, 240, 5), torch.full((5,), 60.0)], dim=-1)
    tracks = torch.stack([middle - 8, middle + 8], dim=1)
    seen = torch.ones(5, 2, dtype=torch.bool)
    seen[2] = False
    boxes = paths.from_tracks({"track_path": tracks, "track_visibility": seen}, 320, 240, (0.01 * 2, 0.5)).at(5)[0]
    torch.testing.assert_close(boxes[:, 0], torch.linspace(0.25, 0.75, 5))
    torch.testing.assert_close(boxes[:, 1], torch.full((5,), 0.25))
    torch.testing.assert_close(boxes[:, 2:], torch.tensor([0.05, 0.5]).expand(5, 2))
    unseen = {"track_path": tracks, "track_visibility": torch.zeros_like(seen)}
    far = {"track_path": 100 * tracks}
    for broken, message in (({"track_path": None}, "no places"), (unseen, "No track"), (far, "Set width and height")):
        with pytest.raises(paths.PathError, match=message):
            paths.from_tracks(broken, 320, 240, (0.1, 0.1))


@SLOW_MACHINES
@given(st.integers(1, 60), st.integers(1, 40))
def test_a_way_goes_over_as_many_frames_as_are_asked_for(paths, there, wanted):
    keys = tuple(paths.Key(i, paths.Box(i / 60, 0.5, 0.1, 0.1)) for i in range(there))
    moved = paths.MovingBox(keys).over(wanted)
    places = moved.at(wanted)[:, 0]
    assert all(key.frame < wanted for key in moved.keys)
    assert (places.diff() >= -1e-6).all()
    assert float(places[0]) == 0
    if wanted > 1:
        assert float(places[-1]) == pytest.approx((there - 1) / 60)


@SLOW_MACHINES
@given(*[st.floats(-0.5, 1.5)] * 2, *[st.floats(0.02, 2)] * 2, st.integers(1, 20), st.integers(1, 20))
def test_places_lie_in_a_box_by_their_area(paths, x, y, w, h, height, width):
    found = paths.memberships(torch.tensor([x, y, w, h], dtype=torch.float64), height, width)
    assert found.shape == (height, width)
    assert ((found >= 0) & (found <= 1)).all()
    area = 1.0
    for centre, size in ((x, w), (y, h)):
        area *= max(0.0, min(1.0, centre + size / 2) - max(0.0, centre - size / 2))
    assert float(found.mean()) == pytest.approx(area, abs=1e-9)


# The way of half a latent pixel a frame, from the left to the right.
WAY = "0: 0.25,0.5  15: 0.71875,0.5"


def drawn(
    along, moving, count: int, text: str = WAY, size: float = 0.5, **options
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise along a path, ``(count, frames, 4, 16, 16)``, and what it was made of."""
    boxes = moving(text, size).at(16)
    plain = torch.randn(count, 16, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    return torch.stack([along(noise, boxes, seed, **options) for seed, noise in enumerate(plain)]), plain


@pytest.mark.parametrize("text", [WAY, "0: 0.3,0.2  15: 0.9,1.1"], ids=["along a line", "out of the picture"])
def test_each_frame_stays_white_noise(along, moving, text):
    """Mean, variance and spectrum of every frame, and in and out of the box, are those of independent normal numbers."""
    made, _ = drawn(along, moving, 400, text)
    of_frames = made.transpose(0, 1).flatten(1, 2)  # (frames, samples, height, width)
    samples = of_frames.shape[1]
    assert of_frames.mean((1, 2, 3)).abs().max() < 5 / (samples * 256) ** 0.5
    assert (of_frames.var((1, 2, 3)) - 1).abs().max() < 5 * (2 / (samples * 256)) ** 0.5
    of_places = of_frames.var(1)
    assert (of_places - 1).abs().max() < 6 * (2 / samples) ** 0.5
    power = torch.fft.fft2(of_frames, norm="ortho").abs().square().mean(1)
    assert (power - 1).abs().max() < 7 * (2 / samples) ** 0.5
    shares = [(of_frames.abs() < bound).float().mean().item() for bound in (1, 2, 3)]
    np.testing.assert_allclose(shares, [0.6827, 0.9545, 0.9973], atol=2e-3)


def test_low_frequencies_move_with_the_box_and_high_ones_are_fresh(along, moving):
    """Frames two apart are alike where the box is, once one is moved by as much as the box went: by one place."""
    made, _ = drawn(along, moving, 300, size=0.9)
    first, later = made[:, 6], made[:, 8]
    inside = (slice(None), slice(None), slice(4, 12), slice(5, 11))

    def alike(one: torch.Tensor, other: torch.Tensor) -> float:
        one, other = one[inside].flatten(), other[inside].flatten()
        return float((one * other).mean())

    moved = alike(first, later.roll(-1, -1))
    # as much as the mean of a^2 over all frequencies
    assert moved == pytest.approx(0.195, abs=0.02)
    assert moved > 1.5 * alike(first, later)
    rough = [x - torch.nn.functional.avg_pool2d(x, 3, 1, 1) for x in (first, later.roll(-1, -1))]
    smooth = [torch.nn.functional.avg_pool2d(x, 5, 1, 2) for x in (first, later.roll(-1, -1))]
    correlated = [alike(*pair) / alike(pair[0], pair[0]) for pair in (rough, smooth)]
    assert correlated[1] > 0.7
    assert correlated[0] < 0.35


def test_outside_of_the_box_noise_is_the_samplers(along, moving):
    made, plain = drawn(along, moving, 1, size=0.25)
    assert torch.equal(made[..., :5, :], plain[..., :5, :])
    assert torch.equal(drawn(along, moving, 1, strength=0.0)[0], plain)
    again, _ = drawn(along, moving, 1, size=0.25)
    assert torch.equal(again, made)


class Clip:
    """Reads as the host's CLIP does: ids for words, a start and an end, and the end up to 8 tokens."""

    def tokenize(self, text):
        ids = [1, *(10 + sum(map(ord, word)) for word in text.split()), 2]
        return {"l": [[(token, 1.0) for token in [*ids, *[2] * (8 - len(ids))]]]}


def test_words_are_found_in_the_prompt(words, moving):
    path = moving("0: 0,0", word="cat").and_also(moving("0: 0,0", word="red dog")).and_also(moving("0: 0,0"))
    found = words.words_of(path, Clip(), "a cat a red dog")
    assert [sorted(one) for one in found.places] == [[1, 2, 3, 4, 5], [4, 5], [2]]
    torch.testing.assert_close(found.among(16)[:, 2].nonzero().flatten(), torch.tensor([2, 10]))
    assert found.among(9) is None


def test_words_that_are_not_there_are_told(paths, words, moving):
    path = moving("0: 0,0", word="bird")
    with pytest.raises(paths.PathError, match="'bird', which does not stand in the prompt 'a cat'"):
        words.words_of(path, Clip(), "a cat")
    with pytest.raises(paths.PathError, match="Connect clip"):
        words.words_of(path, None, "")


def test_without_a_prompt_all_tokens_but_the_first_count(words, moving):
    marks = words.words_of(moving("0: 0,0"), None, "").among(77)[:, 0]
    assert marks.tolist() == [0.0] + [1.0] * 76


@pytest.mark.parametrize("terms", [1, 3, 9])
def test_terms_join_the_logits_of_any_attention_function(pack, terms):
    """Against softmax(q k^T / sqrt(d) + a b^T) v, computed here in float64."""
    attention = pack.submodule("host.attention")
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, n, 2 * 20, generator=generator) for n in (7, 5, 5))
    a, b = (torch.randn(3, n, terms, generator=generator) for n in (7, 5))
    found = attention.with_terms(attention.temporal_attention(), (q, k, v), 2, a, b)
    of_q, of_k, of_v = (x.double().unflatten(-1, (2, 20)).transpose(1, 2) for x in (q, k, v))
    logits = of_q @ of_k.transpose(-1, -2) * 20**-0.5 + (a.double() @ b.double().transpose(-1, -2))[:, None]
    expected = (logits.softmax(-1) @ of_v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
