"""The motion error of a training: which way latents move, and how far that is from where the clips go."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

FRAMES, SIZE = 8, 12


@pytest.fixture
def motion(pack):
    return pack.submodule("training.motion")


def spot(x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor | float = 2.0, size: int = SIZE) -> torch.Tensor:
    """A soft spot at ``x``, ``y (frames,)``, on ground with a still stripe: ``(frames, 4, size, size)``."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = (columns - x.view(-1, 1, 1)) ** 2 + (rows - y.view(-1, 1, 1)) ** 2
    radius = torch.as_tensor(radius).expand(len(x)).view(-1, 1, 1)
    picture = torch.exp(-distance / (2 * radius**2)) + (columns == 2)
    return picture[:, None] * torch.tensor([1.0, -2.0, 0.5, 0.0]).view(1, 4, 1, 1)


def moving(degrees: float, start: float = 0.0, size: int = SIZE) -> torch.Tensor:
    """A spot that goes that way, 0 to the right and 90 down, half a latent a frame through the middle of the picture."""
    angle = torch.deg2rad(torch.tensor(degrees))
    way = (torch.arange(FRAMES) - FRAMES / 2) * 0.5 * size / SIZE + start
    middle = (size - 1) / 2
    return spot(middle + way * angle.cos(), middle + way * angle.sin(), 2.0 * size / SIZE, size)


def growing() -> torch.Tensor:
    middle = torch.full((FRAMES,), (SIZE - 1) / 2)
    return spot(middle, middle, torch.linspace(1.5, 3.0, FRAMES))


@pytest.mark.parametrize("turn", [0, 30, 90, 135, 180])
@pytest.mark.parametrize("degrees", [0, 70, 200])
def test_the_angle_between_two_motions(motion, degrees, turn):
    shared = motion.common_direction([moving(degrees), moving(degrees, start=1.0)])
    assert motion.degrees_from(shared, moving(degrees + turn)) == pytest.approx(turn, abs=20)


def test_a_zoom_is_told_from_its_reverse_and_from_a_pan(motion):
    shared = motion.common_direction([growing()])
    assert motion.degrees_from(shared, growing()) < 5
    assert motion.degrees_from(shared, growing().flip(0)) > 175
    assert motion.degrees_from(shared, moving(0)) == pytest.approx(90, abs=15)


def test_contrast_and_fine_latents_change_no_direction(motion):
    shared = motion.common_direction([moving(0)])
    assert motion.degrees_from(shared, 0.1 * moving(40)) == pytest.approx(
        motion.degrees_from(shared, moving(40)), abs=0.1
    )
    assert motion.degrees_from(shared, moving(0, size=4 * SIZE)) < 10


def test_clips_without_a_motion_in_common_are_not_measured(motion):
    assert motion.common_direction([moving(0), moving(180)]) is None
    to_and_fro = moving(0)[: FRAMES // 2]
    assert motion.common_direction([torch.cat((to_and_fro, to_and_fro.flip(0)))]) is None


class Draws:
    """A UNet that sees the same clip in whatever noise."""

    device, timesteps = torch.device("cpu"), 1000

    def __init__(self, clip: torch.Tensor):
        self.clip, self.calls = clip, []

    def sigma(self, timesteps):
        return 0.1 + timesteps / 100

    def denoised(self, noisy, sigma, conditionings, inputs):
        assert len(noisy) == len(sigma) == len(conditionings)
        self.calls.append((noisy, conditionings))
        return self.clip.expand_as(noisy)


@pytest.fixture
def check(motion, pack):
    def make(clip: torch.Tensor, steps: int = 400, captions: int = 3):
        training = pack.submodule("training.settings")
        clips = SimpleNamespace(latents=(moving(90),) * captions, conditioning=tuple(range(captions)))
        return motion.MotionCheck(Draws(clip), clips, training.TrainingSettings(steps, FRAMES, batch=3))

    return make


def test_the_motion_error_is_that_of_what_is_drawn_from_noise(check):
    errors = {turn: check(moving(90 + turn)).error(()) for turn in (0, 90, 180)}
    assert errors == {turn: pytest.approx(turn, abs=12) for turn in errors}


def test_it_is_drawn_from_the_same_noise_there_and_back(check):
    """With all captions in turn, and as many clips at once as a step has."""
    one, other = check(moving(0)), check(moving(0))
    for each in (one, other):
        each.error(())
    (first, *_), (same, *_) = one.unet.calls, other.unet.calls
    assert torch.equal(first[0], same[0])
    assert torch.equal(one.noise[:4], one.noise[4:].flip(1))
    assert max(len(noisy) for noisy, _ in one.unet.calls) == 3
    # for each part of the clips the calls of all levels, one after the other
    assert [conditionings for _, conditionings in one.unet.calls[::5]] == [[0, 1, 2], [0, 1, 2], [0, 1]]


@pytest.mark.parametrize(
    ("steps", "measured"), [(24, []), (25, [25]), (60, [25, 50, 60]), (400, list(range(40, 401, 40)))]
)
def test_it_is_measured_some_ten_times(check, steps, measured):
    due = check(moving(0), steps).due
    assert [step for step in range(1, steps + 1) if due(step)] == measured
