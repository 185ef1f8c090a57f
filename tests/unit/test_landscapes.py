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


def test_claims_of_clips_as_they_should_be(landscapes, claims, rng):
    """What the table would say if everything were drawn by the world itself."""

    def drawn(clip):
        if clip.motion is None:
            return [landscapes.random_view(rng, clip.caption) for _ in range(landscapes.FRAMES)]
        if clip.loras == (claims.PAN_LEFT,):
            return landscapes.panning(rng, clip.caption, direction=np.pi)
        if clip.loras == (claims.ZOOM_IN,):
            return landscapes.zooming(rng, clip.caption, inwards=True)
        return landscapes.moving(rng, clip.caption)

    found = claims.landscape_claims(lambda clips: [landscapes.video(drawn(clip)) for clip in clips], 4)
    assert {claim.verdict for claim in found if claim.target is not None} == {"target"}
    values = {claim.measure: claim.value for claim in found}
    low, high = landscapes.TRAVEL
    assert 0.8 * low < values["how far, pixels"] < 1.1 * high
    assert values["the same of the still model, %"] == 100


def test_every_motion_lora_of_the_claims_has_a_recipe(toyworld, claims):
    recipes = toyworld("live_training").LORAS
    for name in (claims.PAN_LEFT, claims.ZOOM_IN):
        assert recipes[name.removeprefix("toyworld-")].world is toyworld("worlds").LANDSCAPES
