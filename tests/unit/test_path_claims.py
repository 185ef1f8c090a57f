"""The measures behind Follow Path's claims: shapes drawn on a path are found there, and others are not."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def path_claims(toyworld):
    return toyworld("path_claims")


@pytest.fixture(scope="module")
def drawn(path_claims, toyworld):
    """`drawn(places (frames, 2), caption)`: a clip of a shape there."""
    scenes = toyworld("scenes")

    def draw(places, caption):
        _, colour, shape = caption.split()
        return scenes.video([scenes.Scene(shape, colour, x, y, 10.0) for x, y in places])

    return draw


def test_shapes_on_the_path_follow_it_and_others_do_not(path_claims, drawn):
    def sample(clips):
        still = path_claims.places(path_claims.PATHS[0])[:1].repeat(16, axis=0)
        drift = still + np.linspace(0, 5, 16)[:, None] * (0.6, 1)
        ways = [drift if clip.path is None else path_claims.places(clip.path) for clip in clips]
        return [drawn(way, clip.caption) for way, clip in zip(ways, clips, strict=True)]

    found = {claim.measure: claim.value for claim in path_claims.path_claims(sample, 48)}
    with_it, without = (
        found[f"{name}, %"]
        for name in ("Follow Path: clips within 45 degrees of the path", "the same clips without it")
    )
    assert with_it == 100
    assert without == 25  # one of the four goes down to the right
    assert found["Follow Path: distance from the path, pixels"] < 1
    assert found["Follow Path: clips that end within 15 % of the picture from its end, %"] == 100
    assert found["Follow Path: frames of the right shape and colour, points below"] == 0


def test_each_caption_meets_each_path_once(path_claims):
    asked = []
    with pytest.raises(ZeroDivisionError):
        path_claims.path_claims(lambda clips: asked.extend(clips) or 1 / 0, 48)
    assert len({(clip.caption, clip.path) for clip in asked}) == 48


def test_directions_are_those_that_a_reader_of_the_text_expects(path_claims):
    degrees = np.degrees([path_claims.direction(path) for path in path_claims.PATHS])
    np.testing.assert_allclose(degrees, [0, 135, 0, -44], atol=6)
