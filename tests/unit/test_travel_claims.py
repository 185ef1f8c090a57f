"""The measures behind the claims of prompt travel and Motion Amount: clips that are drawn give the numbers that they should."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="module")
def scenes(toyworld):
    return toyworld("scenes")


def values(claims) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for claim in claims:
        found.setdefault(claim.measure, []).append(claim.value)
    return found


def test_frames_count_that_have_the_colour_of_their_prompt(toyworld, scenes):
    """Without the option the first colour lasts 8 frames too long; with it there is no such frame."""
    travel = toyworld("travel_claims")

    def drawn(clip):
        shape = clip.travel.split('"')[3].split()[-1]
        reds = 16 if clip.keep_apart else 24
        return scenes.video(
            [scenes.Scene(shape, "red" if i < reds else "blue", 20.0 + i / 2, 32.0, 10.0) for i in range(32)]
        )

    claims = travel.travel_claims(lambda clips: list(map(drawn, clips)), 3)
    assert claims[0].value == 100
    found = values(claims)
    assert found["the same without it"] == pytest.approx([75, 100, 0.5, 0.5, 75], abs=0.2)


def test_the_prompts_are_of_the_frames_that_are_counted(toyworld, pack):
    """What the node makes of the claim's text: 16 frames of the first, 16 of the second."""
    grammar, prompts = pack.submodule("scheduling.grammar"), pack.submodule("scheduling.prompts")
    text = toyworld("travel_claims").prompts("circle")
    shown = prompts.prompt_of_each_frame(grammar.parse_prompts("prompts", text, 32), compounding=False)
    assert shown == ["a red circle"] * 16 + ["a blue circle"] * 16


class Clips:
    """Shapes that go ``speed(clip)`` pixels a frame, and lose their colour where ``lost(clip)``."""

    def __init__(self, scenes, pack, speed, lost=lambda clip: False):
        self.scenes, self.speed, self.lost = scenes, speed, lost
        self.made = SimpleNamespace(pack=pack)

    def bench(self):
        return self.made

    def __call__(self, clips):
        return list(map(self.drawn, clips))

    def drawn(self, clip) -> np.ndarray:
        _, colour, shape = clip.caption.split()
        colour = {"red": "blue"}.get(colour, "red") if self.lost(clip) else colour
        places = 14 + self.speed(clip) * np.arange(16)
        return self.scenes.video([self.scenes.Scene(shape, colour, x, 32.0, 10.0) for x in places])


def test_motion_that_grows_with_the_amount_is_told_from_motion_that_does_not(toyworld, scenes, pack):
    pytest.importorskip("cv2", reason="OpenCV, which measures the flow, is not installed")
    amounts = toyworld("amount_claims")
    clips = Clips(
        scenes,
        pack,
        speed=lambda clip: 0.2 + clip.amount if clip.amount is not None else 2.2 - clip.scale,
        lost=lambda clip: clip.amount == 2.0,
    )
    found = values(amounts.amount_claims(clips, 2))
    assert found["Spearman of amount and dynamic degree"] == [pytest.approx(1)]
    assert found["the same of scale_multival"] == [pytest.approx(-1), pytest.approx(0)]
    assert found["amount: most points lost of frames of the right shape and colour"] == [100]
    degrees = [found[f"amount {setting:.2f}: dynamic degree, pixels per frame"][0] for setting in amounts.SETTINGS]
    assert degrees == sorted(degrees)
    assert degrees[3] == pytest.approx(1.2, rel=0.35)
