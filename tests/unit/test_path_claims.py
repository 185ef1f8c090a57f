"""The measures behind the claims of Follow Path, of Camera Path and of motion borrowed from a video: drawn shapes are found where they
are, and others are not."""

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


def turned(places: np.ndarray, degrees: float) -> np.ndarray:
    """The way ``places (frames, 2)`` about its beginning."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return places[0] + (places - places[0]) @ turn


def test_shapes_on_the_path_follow_it_and_others_do_not(path_claims, drawn):
    """Trained ones are on the path, others go 38 degrees beside it, and without a path all go down to the right."""

    def sample(clips):
        still = path_claims.places(path_claims.PATHS[0])[:1].repeat(16, axis=0)
        drift = still + np.linspace(0, 5, 16)[:, None] * (0.6, 1)

        def way(clip):
            if clip.path is None:
                return drift
            places = path_claims.places(clip.path)
            return places if clip.loras else turned(places, 38)

        return [drawn(way(clip), clip.caption) for clip in clips]

    found: dict[str, list[float]] = {}
    for claim in path_claims.path_claims(sample, 48):
        found.setdefault(claim.measure, []).append(claim.value)
    end = "clips that end within 15 % of the picture from its end, %"
    assert found["Follow Path: clips within 45 degrees of the path, %"] == [100]
    assert found["trained for it: clips within 30 degrees of the path, %"] == [100]
    # within 45, within 30: one of the four goes down to the right
    assert found["the same clips without it, %"] == [25, 25]
    assert found["Follow Path: mean error of direction, degrees"] == [pytest.approx(38, abs=4)]
    assert found[f"Follow Path: {end}"] == [0]
    assert found[f"trained for it: {end}"] == [100]
    assert found["trained for it: distance from the path, pixels"][0] < 1
    assert found["trained for it: frames of the right shape and colour, points below"] == [0]


@pytest.fixture(scope="module")
def asked(path_claims, drawn):
    """The 48 clips without a path, with one, and of the MotionLoRA."""
    asked = []
    still = drawn(np.full((16, 2), 32.0), "a red circle")
    path_claims.path_claims(lambda clips: asked.append(clips) or [still] * len(clips), 48)
    return asked


def test_the_trained_motion_lora_gets_noise_along_the_path_and_the_node_alone_does_not(asked, toyworld):
    prompts = toyworld("prompts")

    def noise(clip):
        nodes = prompts.sampling_prompt(clip)
        return nodes["follow"]["inputs"]["noise"] if "follow" in nodes else None

    assert [set(map(noise, clips)) for clips in asked] == [{None}, {0.0}, {1.0}]


def test_each_caption_meets_each_path_once(asked):
    for clips in asked[1:]:
        assert len({(clip.caption, clip.path) for clip in clips}) == 48


def test_directions_are_those_that_a_reader_of_the_text_expects(path_claims):
    degrees = np.degrees([path_claims.direction(path) for path in path_claims.PATHS])
    np.testing.assert_allclose(degrees, [0, 135, 0, -44], atol=6)


class Drawn:
    """Clips of the shape of their caption at ``places(clip)``, in place of sampled ones; ``videos`` are in a folder."""

    def __init__(self, drawn, places, videos=None):
        self.drawn, self.places, self.videos = drawn, places, videos

    def __call__(self, clips):
        return [self.drawn(self.places(clip), clip.caption) for clip in clips]


def test_a_picture_moves_against_the_camera_that_pans(toyworld, drawn):
    """With the camera all go left, so the half of the pans that are to the right counts; nothing grows."""
    middle = np.full((16, 2), 32.0)
    left = middle - np.linspace(-8, 8, 16)[:, None] * (1, 0)
    sample = Drawn(drawn, lambda clip: left if clip.camera else middle + (left - middle)[:, ::-1])
    found = {claim.measure: claim.value for claim in toyworld("camera_claims").camera_claims(sample, 6)}
    assert found["Camera Path: pans within 45 degrees, %"] == 50
    assert found["without it: pans within 45 degrees, %"] == 0
    assert found["Camera Path: growth by a zoom of 1.6"] == pytest.approx(1, abs=0.02)


def test_motion_is_borrowed_where_the_clip_goes_as_the_video_does(toyworld, drawn, tmp_path):
    """Motion Clone is drawn beside the path of its video, Motion Path from Clip on it; what has no video goes right."""
    borrowed, scenes = toyworld("borrowed_claims"), toyworld("scenes")
    right = np.stack([np.linspace(24, 40, 16), np.full(16, 32.0)], axis=1)

    def places(clip):
        name = clip.cloned or clip.followed
        if name is None:
            return right
        angle = 2 * np.pi * int(name.split("-")[1]) / 4
        rng = np.random.default_rng(clip.seed)
        other = scenes.CAPTIONS[(scenes.CAPTIONS.index(clip.caption) + borrowed.OTHER) % 12]
        way = scenes.random_path(rng, angle, other, scenes.CROSSING)
        return np.array([(scene.x, scene.y) for scene in way]) + (3.0 if clip.cloned else 0.0)

    claims = borrowed.borrowed_claims(Drawn(drawn, places, tmp_path / "input"), 4)
    found = {claim.measure: claim.value for claim in claims}
    assert len(list((tmp_path / "input").iterdir())) == 4
    for name, within, away in (
        ("Motion Clone", 100, 3 * 2**0.5),
        ("Motion Path from Clip", 100, 0),
        ("neither", 25, None),
    ):
        assert found[f"{name}: clips within 45 degrees of the video, %"] == within
        assert found[f"{name}: frames of the right shape and colour, %"] == 100
        if away is not None:
            assert found[f"{name}: distance from where it is in the video, pixels"] == pytest.approx(away, abs=0.8)
