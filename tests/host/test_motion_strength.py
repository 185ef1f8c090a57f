"""Motion Strength: the strength that is in force at each step, and for each frame."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="module")
def nodes(pack) -> dict[str, type]:
    return {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}


@pytest.fixture
def strength(nodes):
    def strength(over_run="", over_frames="", interpolation="hold", acts_on="effect", previous=None):
        inputs = {"over_run": over_run, "over_frames": over_frames, "interpolation": interpolation, "acts_on": acts_on}
        return nodes["AnimateDiffMotionStrength"].execute(**inputs, prev_ad_keyframes=previous).args[0]

    return strength


@pytest.fixture
def with_keyframes(nodes, new_model):
    """A MODEL that samples with a motion model and keyframes, or with one scale and effect throughout."""

    def make(motion_model, **inputs):
        (applied,) = nodes["ADE_ApplyAnimateDiffModelSimple"].execute(motion_model=motion_model, **inputs).args
        (model,) = (
            nodes["ADE_UseEvolvedSampling"]
            .execute(model=new_model(), beta_schedule="autoselect", m_models=applied)
            .args
        )
        return model

    return make


STEPS = 6


@pytest.fixture
def predictions(sample):
    """What a MODEL predicts in each step, all from the same noise; and the sigmas of the steps."""

    def predictions(model) -> list[tuple[torch.Tensor, float]]:
        seen = []

        def note(args):
            seen.append((args["denoised"], float(args["sigma"][0])))
            return args["denoised"]

        model = model.clone()
        model.set_model_sampler_post_cfg_function(note)
        for step in range(STEPS):
            sample(model, steps=STEPS, start_step=step, last_step=step + 1)
        return seen

    return predictions


def percent_of(model, sigma: float) -> float:
    """Where a sigma lies in the sampling schedule."""
    return 1 - float(model.get_model_object("model_sampling").timestep(torch.tensor(sigma))) / 999


@pytest.mark.parametrize("acts_on", ["effect", "scale"])
def test_each_step_has_the_strength_of_the_last_percent_named(
    strength, with_keyframes, predictions, new_motion, acts_on
):
    motion_model = new_motion()
    model = with_keyframes(
        motion_model, ad_keyframes=strength("0.15: 0.9, 0.44: 0.5, 0.45: 0.6, 0.75: 0.2", acts_on=acts_on)
    )
    found = predictions(model)
    points = [(0.75, 0.2), (0.45, 0.6), (0.44, 0.5), (0.0, 0.9)]
    wanted = [next(value for percent, value in points if percent_of(model, sigma) >= percent) for _, sigma in found]
    assert len(set(wanted)) == 3  # 0.44 is over before a step comes
    constant = {
        value: predictions(with_keyframes(motion_model, **{f"{acts_on}_multival": value})) for value in set(wanted)
    }
    for step, value in enumerate(wanted):
        torch.testing.assert_close(found[step][0], constant[value][step][0])
        others = [constant[other][step][0] for other in constant if other != value]
        assert not any(torch.allclose(found[step][0], other) for other in others)


def test_a_ramp_is_followed_to_half_a_percent(pack, strength, with_keyframes, new_motion, new_model):
    """At any sigma: what is in force against the straight line, in float64."""
    keyframes = pack.submodule("sampling.keyframes")
    chain = strength("0.1: 1.0, 0.6: 0.2, 1.0: 0.2", interpolation="linear")
    model_sampling = with_keyframes(new_motion()).get_model_object("model_sampling")
    starts = keyframes.start_sigmas(chain, model_sampling)
    for percent in [i / 997 for i in range(1, 997)]:
        sigma = float(model_sampling.percent_to_sigma(percent))
        step = type("Step", (), {"sigma": sigma})()
        current = chain[keyframes.InForce(chain, starts, first_sigma=1e9).at(step)]
        line = 1.0 - 0.8 * min(max(percent - 0.1, 0), 0.5) / 0.5
        assert abs(current.effect - line) <= 0.8 / 0.5 * (1 / 200 + 1 / 900)
    assert len(chain) < 110  # nothing where the line is level


def test_frames_have_strengths_of_their_own(strength, with_keyframes, sample, new_motion):
    motion_model = new_motion()
    ramp = strength(over_frames="0: 1.0, 3: 0.25", interpolation="linear")
    expected = with_keyframes(motion_model, effect_multival=torch.tensor([1.0, 0.75, 0.5, 0.25])[:, None, None])
    assert torch.equal(sample(with_keyframes(motion_model, ad_keyframes=ramp)), sample(expected))


def test_run_and_frames_multiply(strength):
    chain = strength("0: 1.0, 0.5: 0.5", "0: 1.0, 2: 0.4", acts_on="scale")
    assert [keyframe.start_percent for keyframe in chain] == [0.0, 0.5]
    assert [keyframe.scale.flatten().tolist() for keyframe in chain] == [
        pytest.approx([1.0, 1.0, 0.4]),
        pytest.approx([0.5, 0.5, 0.2]),
    ]
    assert all(keyframe.effect is None for keyframe in chain)


def test_scale_and_effect_can_be_chained(strength, with_keyframes, sample, new_motion):
    motion_model = new_motion()
    both = strength("0: 0.8", acts_on="scale", previous=strength("0: 0.6", acts_on="effect"))
    result = sample(with_keyframes(motion_model, ad_keyframes=both))
    torch.testing.assert_close(result, sample(with_keyframes(motion_model, scale_multival=0.8, effect_multival=0.6)))


def test_nothing_said_changes_nothing(strength, with_keyframes, sample, new_motion):
    motion_model = new_motion()
    result = sample(with_keyframes(motion_model, ad_keyframes=strength()))
    assert torch.equal(result, sample(with_keyframes(motion_model)))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"over_run": "0.0 1.0"}, r"over_run, line 1, character 5: expected ':' and a strength behind 0\.0"),
        ({"over_run": "2: 1.0"}, "over_run, line 1, character 1: expected a percent between 0 and 1"),
        ({"over_frames": "0.5: 1"}, "over_frames, line 1, character 2: expected ':'"),
    ],
)
def test_a_wrong_text_is_told(strength, inputs, message):
    with pytest.raises(ValueError, match=message):
        strength(**inputs)
