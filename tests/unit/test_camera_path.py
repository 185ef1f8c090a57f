"""A camera that moves: what is written, what poses become, and the noise that it sees."""

import math
import re

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def paths(pack):
    return pack.submodule("sampling.paths.path")


@pytest.fixture(scope="session")
def cameras(pack):
    return pack.submodule("sampling.paths.camera")


@pytest.fixture(scope="session")
def poses(pack):
    return pack.submodule("motion_models.adapters.camera")


@pytest.fixture(scope="session")
def moves(pack, cameras, paths):
    """A path out of a text."""
    places = pack.submodule("scheduling.places")
    form = places.cameras(2.0, cameras.ZOOMS, cameras.MOST_ROLL)

    def make(text: str, noise: float = 1.0):
        moved = cameras.from_moves(places.parse_places("moves", text, form), "linear", noise)
        return paths.MotionPath(camera=moved)

    return make


@pytest.fixture(scope="session")
def drawn(pack):
    return pack.submodule("sampling.paths.drawn").noise_along


def test_moves_are_read_and_zoom_grows_evenly_in_ratio(moves):
    x, y, zoom, roll = moves("0: 0,0  4: 0.4,-0.2,4,90").camera.at(5).unbind(-1)
    torch.testing.assert_close(x, torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4]))
    torch.testing.assert_close(y, -x / 2)
    torch.testing.assert_close(zoom.exp(), torch.tensor([1, 2**0.5, 2, 8**0.5, 4]))
    torch.testing.assert_close(roll, 90 * torch.linspace(0, 1, 5))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0: 0,0,8", "a zoom from 0.25 to 4 (2 is twice as near)"),
        ("0: 0,0,1,9999", "a roll from -3600 to 3600 degrees"),
        ("0: 3,0", "a share of the picture from -2 to 2 (not pixels)"),
        ("0: 0,0,1,0,1", "a blank and the next frame"),
    ],
)
def test_errors_in_the_text_say_what_a_number_may_be(pack, moves, text, expected):
    with pytest.raises(pack.submodule("scheduling.text_error").TextError, match=re.escape(expected)):
        moves(text)


def test_a_clip_has_one_camera_and_any_number_of_things(paths, moves):
    thing = paths.MotionPath((paths.MovingBox((paths.Key(0, paths.Box(0.5, 0.5, 0.2, 0.2)),)),))
    both = moves("0: 0,0").and_also(thing)
    assert len(both.objects) == 1 and both.camera is not None
    assert moves("0: 0,0").at(3).shape == (0, 3, 4)
    with pytest.raises(paths.PathError, match="Two cameras"):
        both.and_also(moves("0: 0,0"))


def test_outlines_are_what_the_camera_sees_in_the_first_picture(cameras, moves):
    """Of a picture twice as wide as high."""
    way = moves("0: 0,0  1: 0.25,0  2: 0,0,2,0  3: 0,0,1,90").camera.at(4)
    found = cameras.outlines(way, 2, 1)
    corners = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    torch.testing.assert_close(found[0], corners)
    torch.testing.assert_close(found[1], corners + torch.tensor([0.25, 0]))
    torch.testing.assert_close(found[2], 0.25 + corners / 2)
    # clockwise: its upper left corner is at the upper right, and what was as wide as two is as high as that
    turned = torch.tensor([[0.75, -0.5], [0.75, 1.5], [0.25, 1.5], [0.25, -0.5]])
    torch.testing.assert_close(found[3], turned, rtol=0, atol=1e-6)
    half = cameras.middles(way, 2, 1)
    torch.testing.assert_close(half[0], 0.25 + corners / 2)
    torch.testing.assert_close(half[1], 0.25 + corners / 2 - torch.tensor([0.25, 0]))
    torch.testing.assert_close(half[2], corners)
    # the camera turns clockwise, the picture the other way: its upper left corner comes to the lower left
    turned = torch.tensor([[0.375, 1.0], [0.375, 0.0], [0.625, 0.0], [0.625, 1.0]])
    torch.testing.assert_close(half[3], turned, rtol=0, atol=1e-6)


MOVES = {
    "Pan Right": (1, 0, 1, 0),
    "Pan Left": (-1, 0, 1, 0),
    "Pan Down": (0, 1, 1, 0),
    "Pan Up": (0, -1, 1, 0),
    "Tilt Right": (1, 0, 1, 0),
    "Tilt Left": (-1, 0, 1, 0),
    "Tilt Down": (0, 1, 1, 0),
    "Tilt Up": (0, -1, 1, 0),
    "Zoom In": (0, 0, 2, 0),
    "Zoom Out": (0, 0, 0.5, 0),
    "Roll Clockwise": (0, 0, 1, 1),
    "Roll Anticlockwise": (0, 0, 1, -1),
    "Static": (0, 0, 1, 0),
}


@pytest.mark.parametrize("motion", MOVES)
def test_camera_poses_move_the_picture_as_they_are_called(cameras, poses, motion):
    made = poses.moving([(motion, 1.0)], 0.5, 16)
    x, y, zoom, roll = cameras.from_poses(made, 6.0, 1.0, 1.0).at(16)[-1].tolist()
    right, down, nearer, clockwise = MOVES[motion]
    for found, asked in ((x, right), (y, down), (zoom, math.log(nearer))):
        assert found * asked > 0.03 if asked else abs(found) < 0.03
    assert roll == pytest.approx(clockwise * 0.5 * 60 * 15 / 16, abs=0.5)


def test_a_pan_of_the_poses_is_as_far_as_the_lens_and_the_depth_say(cameras, poses):
    """1.5 units in 16 frames at speed 1; the picture is depth / fx wide. Of a square clip only the middle of 16:9 is left."""
    made = poses.moving([("Pan Right", 1.0)], 1.0, 16)
    fx = poses.INTRINSICS[0]
    for ratio, seen in ((16 / 9, 1.0), (1.0, 9 / 16)):
        x = cameras.from_poses(made, 6.0, ratio, 1.0).at(16)[-1, 0]
        assert float(x) == pytest.approx(1.5 * 15 / 16 * fx / 6 / seen, rel=0.01)


def test_poses_that_go_too_far_are_told(paths, cameras, poses):
    made = poses.moving([("Zoom In", 1.0)], 3.0, 16)
    with pytest.raises(paths.PathError, match="At frame 11 the camera has gone through what is 6 away"):
        cameras.from_poses(made, 6.0, 1.0, 1.0)
    with pytest.raises(paths.PathError, match=r"At frame \d+: The zoom of the camera is .* Raise depth"):
        cameras.from_poses(poses.moving([("Zoom In", 1.0)], 1.9, 16), 6.0, 1.0, 1.0)


ALL = "0: 0,0  3: 0.2,-0.1,1.7,25  5: -0.1,0.1,0.6,-40"
FRAMES, SIDE = 6, 12


def made(drawn, path, count: int, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """``(frames, count, 12, 12)``, drawn as so many channels, and what it was made of."""
    plain = torch.randn(FRAMES, count, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return drawn(plain, path, 0, **options), plain


@pytest.mark.parametrize("text", ["0: 0,0  5: 0.4,0.13", "0: 0,0  5: 0,0,3", "0: 0,0  5: 0,0,0.4,60", ALL])
def test_each_frame_stays_white_noise(drawn, moves, text):
    """Mean, variance of frames and places, spectrum, and the likeness of any two places are those of independent normal numbers."""
    of_frames, _ = made(drawn, moves(text), 800)  # (frames, samples, height, width)
    samples, size = of_frames.shape[1], SIDE * SIDE
    assert of_frames.mean((1, 2, 3)).abs().max() < 5 / (samples * size) ** 0.5
    assert (of_frames.var((1, 2, 3)) - 1).abs().max() < 5 * (2 / (samples * size)) ** 0.5
    assert (of_frames.var(1) - 1).abs().max() < 6 * (2 / samples) ** 0.5
    power = torch.fft.fft2(of_frames, norm="ortho").abs().square().mean(1)
    assert (power - 1).abs().max() < 7 * (2 / samples) ** 0.5
    places = of_frames.flatten(2)
    alike = torch.einsum("fsi,fsj->fij", places, places) / samples - torch.eye(size)
    assert alike.abs().max() < 6.5 * (2 / samples) ** 0.5
    # all pairs of one distance together, where an error of the low frequencies would show: also from edge to edge
    for shift in [(0, 1), (1, 0), (1, 1), (2, 0), (0, SIDE - 1), (SIDE - 1, 0)]:
        one = of_frames[..., shift[0] :, shift[1] :]
        other = of_frames[..., : SIDE - shift[0], : SIDE - shift[1]]
        pairs = samples * one.shape[-2] * one.shape[-1]
        assert (one * other).mean((1, 2, 3)).abs().max() < 5 / pairs**0.5
    shares = [(of_frames.abs() < bound).float().mean().item() for bound in (1, 2, 3)]
    np.testing.assert_allclose(shares, [0.6827, 0.9545, 0.9973], atol=3e-3)


@pytest.mark.parametrize("text", ["0: 0,0  5: 0.4,0.13", "0: 0,0  5: 0,0,1.5,60", ALL])
def test_coarse_noise_is_where_the_camera_sees_it(pack, cameras, drawn, moves, text):
    """The noise of two frames is as alike as the Gaussians that their places look through overlap, by the framings."""
    path = moves(text)
    noise, _ = made(drawn, path, 1000)
    framings = path.camera.at(FRAMES)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    pixels = torch.stack([x + 0.5 - SIDE / 2, y + 0.5 - SIDE / 2], -1).flatten(0, 1)
    places = cameras.seen_places(framings, pixels, SIDE, SIDE)
    spread = 1 / (2 * math.pi * 0.25) / framings[:, 2].double().exp()
    for first, later in ((0, 1), (0, 5), (2, 4)):
        found = noise[first].flatten(1).T @ noise[later].flatten(1) / 1000
        both = spread[first] ** 2 + spread[later] ** 2
        away = torch.cdist(places[first], places[later]).square()
        # of unit power in each frame: sqrt of the areas of their pixels times the normal density at their distance
        zooms = framings[[first, later], 2].double().exp()
        expected = torch.exp(-away / (2 * both)) / (2 * math.pi * both) / zooms.prod()
        scale = (1 / 1000) ** 0.5
        assert (found - expected).abs().max() < 6.5 * scale
        assert expected.max() > 3 * scale
        alike = float((found * expected).sum() / expected.square().sum())
        assert alike == pytest.approx(1, abs=5 * scale / float(expected.square().sum().sqrt()))


def test_a_strength_below_one_leaves_frames_more_of_their_own(drawn, moves):
    noise, plain = made(drawn, moves("0: 0,0", noise=0.5), 400)
    assert float((noise[0] * noise[5]).mean()) == pytest.approx(0.25 * 0.195, abs=0.01)
    assert torch.equal(made(drawn, moves("0: 0,0", noise=0.0), 400)[0], plain)


def test_the_frames_behind_a_start_are_those_of_the_path(cameras, drawn, moves, paths):
    """A clip that begins at a later frame goes on from there."""
    path = moves("0: 0,0  9: 0.9,0")
    later = paths.MotionPath(camera=cameras.from_moves([(0, (0.4, 0.0)), (5, (0.9, 0.0))], "linear", 1.0))
    noise = torch.randn(FRAMES, 4, SIDE, SIDE)
    torch.testing.assert_close(drawn(noise, path, 3, start=4), drawn(noise, later, 3))


def test_what_would_take_all_memory_is_refused(paths, drawn, moves):
    with pytest.raises(paths.PathError, match="Let it go less far, or zoom less"):
        drawn(torch.randn(2, 4, 256, 256), moves("0: -2,0,0.25  1: 2,0,4"), 0)
