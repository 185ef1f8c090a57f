"""The larger toy world: what is drawn is what was asked for, and its measures read that back."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def landscapes(toyworld):
    return toyworld("landscapes")


@pytest.fixture
def claims(toyworld):
    return toyworld("landscape_claims")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def captions(landscapes):
    assert len(set(landscapes.CAPTIONS)) == 48
    return landscapes.CAPTIONS


def test_colour_and_shape_are_read_back(landscapes, claims, rng, captions):
    for caption in captions:
        view = landscapes.random_view(rng, caption)
        assert view.caption == caption
        assert caption.startswith(f"a {claims.seen(landscapes.draw(view))} on ")


def test_nothing_is_seen_on_empty_ground(landscapes, claims, rng):
    view = landscapes.random_view(rng)
    far = landscapes.replace(view, place=(view.camera[0] + 500, view.camera[1]))
    assert claims.seen(landscapes.draw(far)) == ""
    assert claims.follow(np.stack([landscapes.draw(far)] * 16)) is None


def test_shapes_stay_in_the_picture(landscapes, rng, captions):
    for motion in (landscapes.moving, landscapes.turning, landscapes.panning, landscapes.zooming):
        for caption in captions:
            views = motion(rng, caption)
            assert len(views) == landscapes.FRAMES
            for view in views:
                x, y = (np.array(view.place) - view.camera) * view.zoom
                assert max(abs(x), abs(y)) + 0.6 * view.radius * view.zoom <= landscapes.SIZE / 2


def test_a_pan_moves_ground_and_shape_as_one(landscapes, claims, rng):
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        views = landscapes.panning(rng, direction=angle)
        frames = landscapes.video(views)
        drawn = np.array(views[0].camera) - views[-1].camera  # the other way than the camera
        assert np.linalg.norm(claims.follow(frames).displacement - drawn) < 0.5
        # of dunes and waves the slopes mislead a little
        assert np.linalg.norm(claims.ground_displacement(frames) - drawn) < 0.25 * np.linalg.norm(drawn)


def test_a_shape_that_moves_leaves_the_ground_where_it_is(landscapes, claims, rng):
    frames = landscapes.video(landscapes.moving(rng, "a red star on tiles", direction=0.0))
    (x, y), ground = claims.follow(frames).displacement, claims.ground_displacement(frames)
    assert x > 25
    assert abs(y) < 1
    assert np.linalg.norm(ground) < 3


def test_a_zoom_is_read_back(landscapes, claims, rng):
    for inwards in (True, False):
        views = landscapes.zooming(rng, "a blue square on sand", inwards=inwards)
        growth = claims.follow(landscapes.video(views)).growth
        assert growth == pytest.approx(views[-1].zoom / views[0].zoom, rel=0.06)
        assert (growth > 1) == inwards


def test_by_night_it_is_dark(landscapes, rng):
    view = landscapes.random_view(rng)
    assert landscapes.draw_night(view).mean() < 0.5 * landscapes.draw(view).mean()


@pytest.mark.parametrize(
    ("shipped", "file"),
    [
        ("motion", "toyworld.safetensors"),
        ("motion-no-adapter", "toyworld-no-adapter.safetensors"),
        ("landscapes-motion", "toyworld-landscapes.safetensors"),
    ],
)
def test_names_of_motion_models(toyworld, shipped, file):
    assert toyworld("weights").model_file(shipped) == file
