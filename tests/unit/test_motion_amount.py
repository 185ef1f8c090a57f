"""Motion Amount: noise that frames share in part, and keys that are scaled besides."""

from __future__ import annotations

import math

import pytest
import torch

FRAMES = 9


@pytest.fixture(scope="module")
def amount(pack):
    return pack.submodule("sampling.motion_amount")


@pytest.fixture(scope="module")
def noise():
    return torch.randn((FRAMES, 4, 96, 96), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("turn", [0.0, math.pi / 2, math.pi])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 1.0])
def test_frames_stay_white_noise_and_share_what_was_asked_for(amount, noise, share, turn):
    made = amount.with_shared(noise, 5, share, turn)
    assert made.shape == noise.shape
    assert made.dtype == noise.dtype
    flat = made.flatten(1)
    torch.testing.assert_close(flat.var(1), torch.ones(FRAMES), rtol=0.03, atol=0)
    torch.testing.assert_close(flat.mean(1), torch.zeros(FRAMES), rtol=0, atol=0.02)
    common = share**2 / (share**2 + (1 - share) ** 2)
    angles = torch.linspace(0, turn, FRAMES)
    expected = common * (angles[:, None] - angles).cos()
    expected.fill_diagonal_(1)
    torch.testing.assert_close(torch.corrcoef(flat), expected, rtol=0, atol=0.03)
    # of each frame by itself, as much in the low frequencies as in the high ones
    power = torch.fft.fft2(made).abs().square().mean((0, 1)) / made[0, 0].numel()
    low = torch.fft.fftfreq(96).abs() < 0.125
    assert float(power[low][:, low].mean()) == pytest.approx(1, abs=0.06)


def test_what_is_shared_depends_on_the_seed_alone(amount, noise):
    one, again, other = (amount.with_shared(noise, seed, 1.0) for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert torch.equal(one, amount.with_shared(-noise, 5, 1.0))
    assert float(torch.corrcoef(torch.stack((one[0].flatten(), other[0].flatten())))[0, 1].abs()) < 0.03


def test_nothing_shared_is_the_noise_itself(amount, noise):
    assert amount.with_shared(noise, 5, 0.0) is noise


def test_one_is_as_without(amount):
    one = amount.MotionAmount(1.0)
    assert (one.scale, one.shared) == (1.0, 0.0)


def test_keys_are_scaled_besides_what_scales_them(pack):
    call, strength = pack.submodule("motion_models.network.call"), pack.submodule("motion_models.network.strength")
    mask = strength.FrameMask(torch.full((1, 1, 1), 0.5), 4)
    own = {"a": call.ModuleInputs((2.0, mask), 0.5), "b": call.ModuleInputs(effect=0.0)}
    made = call.MotionInputs(call.ModuleInputs((None, 3.0)), own).scaled(1.5, 2)
    assert made.default.scale == (1.5, 4.5)
    assert made.modules["a"].scale[0] == 3.0
    assert made.modules["a"].scale[1].at(1, 1, torch.zeros(1)).flatten().tolist() == [0.75] * 4
    assert made.modules["a"].effect == 0.5
    assert (made.modules["b"].scale, made.modules["b"].effect) == ((1.5, 1.5), 0.0)
