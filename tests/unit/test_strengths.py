"""Strengths over the sampling run and over frames: the texts users write, and what becomes of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="session")
def schedules(pack):
    return pack.submodule("scheduling.strengths")


@pytest.fixture(scope="session")
def text_error(pack):
    return pack.submodule("scheduling.text_error").TextError


@pytest.fixture(scope="session")
def strength(pack):
    return pack.submodule("motion_models.network.strength")


@pytest.mark.parametrize(
    "text",
    ["0.0: 1.0, 0.5: 0.3", "0:1,.5:.3", "0.5: 0.3\n0: 1e0", " 0 : 1 ; 0.5 : +0.3 ,\n", "0: 1,\n\n0.5: 3e-1\n"],
)
def test_pairs_are_read_in_any_spelling_and_order(schedules, text):
    assert schedules.strength_schedule("strengths", text).points == ((0.0, 1.0), (0.5, 0.3))


@pytest.mark.parametrize(
    ("text", "place", "expected", "found"),
    [
        ("", "line 1, character 1", "a percent between 0 and 1", "the end of the text"),
        ("0.0: 1.0, x: 2", "line 1, character 11", "a percent between 0 and 1", "'x'"),
        ("0.0: 1.0\n1.5: 2", "line 2, character 1", "a percent between 0 and 1", "'1'"),
        ("-0.5: 1", "line 1, character 1", "a percent between 0 and 1", "'-'"),
        ("0.0 1.0", "line 1, character 5", "':' and a strength behind 0.0", "'1'"),
        ("0.0:", "line 1, character 5", r"a strength \(a number\) behind '0.0:'", "the end of the text"),
        ("0.0: fast", "line 1, character 6", r"a strength \(a number\)", "'f'"),
        ("0.0: 1.0 0.5: 2", "line 1, character 10", "a comma or a new line", "'0'"),
        ("0.0: 1.0x", "line 1, character 9", "a comma or a new line", "'x'"),
        ("0.5: 1, 0.50: 2", "line 1, character 9", "a percent that was not named before", "'0'"),
    ],
)
def test_an_error_points_at_the_character(schedules, text_error, text, place, expected, found):
    with pytest.raises(text_error, match=f"strengths, {place}: expected {expected}.*, found {found}") as error:
        schedules.strength_schedule("strengths", text)
    shown, caret = str(error.value).splitlines()[1:3]
    line, column = (int(word) for word in place.replace("line ", "").split(", character "))
    assert shown == (text.splitlines()[line - 1] if text else "")
    assert caret == " " * (column - 1) + "^"


@given(st.dictionaries(st.floats(0, 1), st.floats(-10, 10), min_size=1), st.text(" \n\t", max_size=2))
def test_what_is_written_is_read_back(schedules, points, blank):
    text = ",".join(f"{blank}{percent!r}: {value!r}" for percent, value in points.items())
    assert dict(schedules.strength_schedule("strengths", text).points) == points


@given(st.text("0123456789.:,;eE+- \nx", max_size=30))
def test_any_text_gives_a_schedule_or_an_error_of_ours(schedules, text_error, text):
    try:
        schedules.strength_schedule("strengths", text)
    except text_error as error:
        assert "expected" in str(error)


def test_hold_and_linear(strength):
    points = ((0.2, 1.0), (0.6, 0.0))
    hold, linear = (strength.StrengthSchedule(points, kind) for kind in ("hold", "linear"))
    assert [hold.at(p) for p in (0.0, 0.2, 0.59, 0.6, 1.0)] == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert [linear.at(p) for p in (0.0, 0.2, 0.6, 1.0)] == [1.0, 1.0, 0.0, 0.0]
    assert linear.at(0.3) == pytest.approx(0.75)


def test_strengths_per_frame(schedules, text_error):
    held = schedules.frame_strengths("frame_strengths", "0: 1, 2: 0.5")
    assert held.flatten().tolist() == [1.0, 1.0, 0.5]
    lines = schedules.frame_strengths("frame_strengths", "0: 1, 4: 0", "linear")
    torch.testing.assert_close(lines.flatten(), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    with pytest.raises(text_error, match=r"frame_strengths, line 1, character 2: expected ':'"):
        schedules.frame_strengths("frame_strengths", "1.5: 1")
    with pytest.raises(text_error, match="a frame number between 0 and 9999"):
        schedules.frame_strengths("frame_strengths", "10000000000: 1")


def test_masks_and_strengths_per_frame_multiply(schedules):
    masks = torch.rand(2, 4, 5)
    frames = torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    expected = torch.stack([masks[0], masks[1] * 0.5, masks[1] * 0.0])
    torch.testing.assert_close(schedules.masks_multiplied(masks, frames), expected)


@pytest.fixture(scope="session")
def model_sampling(pack, host_path):
    from types import SimpleNamespace

    import comfy.model_base

    model_type = comfy.model_base.ModelType.EPS
    return comfy.model_base.model_sampling(SimpleNamespace(sampling_settings={}), model_type)


@pytest.mark.parametrize("kind", ["hold", "linear"])
def test_schedules_follow_the_sigmas_of_the_model(pack, strength, model_sampling, kind):
    schedule = strength.StrengthSchedule(((0.0, 1.0), (0.25, 0.5), (0.75, -2.0), (1.0, 4.0)), kind)
    over_sigmas = pack.submodule("sampling.strength.in_run").StrengthOverSigmas.of(schedule, model_sampling)
    for timestep in range(5, 995, 10):
        sigma = float(model_sampling.sigma(torch.tensor(float(timestep))))
        percent = 1 - timestep / 999
        assert over_sigmas.at(sigma) == pytest.approx(schedule.at(percent), abs=1e-2), percent
    assert over_sigmas.at(float(model_sampling.sigma_max)) == 1.0
    assert over_sigmas.at(float(model_sampling.sigma_min)) == (4.0 if kind == "linear" else -2.0)


def test_a_clip_longer_than_its_masks_repeats_the_last(pack, strength, model_sampling):
    in_run = pack.submodule("sampling.strength.in_run").StrengthInRun

    def strengths(mask, frames, window=None):
        run = in_run.of(strength.VaryingStrength(0.5, None, mask), model_sampling, frames)
        height, width = mask.shape[1:]
        return run.at(None, window).at(height, width, torch.zeros(1))

    per_frame = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    assert strengths(per_frame, 5).flatten().tolist() == [0.5, 1.0, 1.5, 1.5, 1.5]
    assert strengths(per_frame, 2).flatten().tolist() == [0.5, 1.0]
    assert strengths(per_frame, 5, window=[1, 2, 4]).flatten().tolist() == [1.0, 1.5, 1.5]
    masks = torch.rand(2, 4, 6)
    assert torch.equal(strengths(masks, 3, window=[0, 2]), 0.5 * masks[:, None])
