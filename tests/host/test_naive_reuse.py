"""NaiveReuse in the host's sampler against its formula in float64, from the windows' own predictions."""

from __future__ import annotations

import pytest
import torch

SIZE = 8


def clip_noise(frames: int) -> torch.Tensor:
    return torch.randn(frames, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def reusing(pack, new_model, new_motion, layouts):
    """`reusing(schedule, length, overlap, fuse=…, plain=…, weighted_mean=…)`: a MODEL with windows and NaiveReuse in all steps."""
    schedules, context = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    extras = pack.submodule("sampling.context_extras.extras")
    model, motion_model = new_model(layouts["unusual"]), new_motion(layouts["unusual"])

    def make(schedule, length=4, overlap=0, fuse="flat", plain=False, **asked):
        options = schedules.WindowOptions(schedule.removeprefix("shared "), length, overlap)
        contexts = (context.Context(options, fuse),)
        if schedule.startswith("shared "):
            views = context.ViewOptions(options, fuse, shared=True)
            contexts = (context.Context(schedules.WindowOptions("view_as_context", 0), "flat", views=views),)
        if not plain:
            reuse = pack.submodule("sampling.context_extras.naive_reuse").NaiveReuse(**{"end_percent": 1.0, **asked})
            contexts = context.with_extras(contexts, extras.ContextExtras(naive_reuse=reuse))
        applied = motion.apply(motion_model, motion.MotionSettings())
        return animate(model, applied, "autoselect", contexts)

    return make


def error(found, expected) -> float:
    return ((found - expected).norm() / expected.norm()).item()


CASES = {
    "static": ("standard_static", 4, 2, 10, "pyramid", [0, 1, 2, 3]),
    "relative": ("standard_static", 4, 2, 10, "relative", [0, 1, 2, 3]),
    "uniform": ("standard_uniform", 4, 2, 9, "flat", [0, 1, 2, 3]),
    "batched": ("batched", 4, 0, 6, "flat", [0, 1, 2, 3]),
}


@pytest.mark.parametrize("strength", [None, 0.5, "mask"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_whole_clip_is_pulled_towards_the_first_window(reusing, sample, case, strength):
    """One step to no noise, so that what comes out is the prediction."""
    schedule, length, overlap, frames, fuse, first = case
    noise = clip_noise(frames)
    if strength == "mask":
        strength = torch.rand(frames, 3, 3, generator=torch.Generator().manual_seed(1))
    found = sample(reusing(schedule, length, overlap, fuse, strength=strength, weighted_mean=0.8), noise=noise, steps=1)
    plain = sample(reusing(schedule, length, overlap, fuse, plain=True), noise=noise, steps=1).double()
    alone = sample(reusing(schedule, 9, 0, plain=True), noise=noise[first], steps=1).double()
    m = torch.full((frames, 1, 1, 1), 0.8, dtype=torch.float64)
    if isinstance(strength, torch.Tensor):
        size = (SIZE, SIZE)
        m = m * torch.nn.functional.interpolate(strength[:, None].double(), size, mode="bilinear", align_corners=False)
    elif strength is not None:
        m = m * strength
    repeated = torch.stack([alone[i % length] for i in range(frames)])
    assert error(found, m * repeated + (1 - m) * plain) < 1e-5
    assert error(found, plain) > 1e-2


def test_shared_windows_are_pulled_towards_the_first(reusing, sample):
    """As windows without overlap are, which are the same clips."""
    noise = clip_noise(10)
    together, one_by_one = (
        sample(reusing(f"{how}batched", weighted_mean=0.8), noise=noise, steps=2) for how in ("shared ", "")
    )
    assert error(together, one_by_one) < 2e-5
    assert error(together, sample(reusing("shared batched", plain=True), noise=noise, steps=2)) > 1e-2


@pytest.mark.parametrize("masked", [False, True])
def test_behind_the_end_follows_the_beginning(pack, masked):
    """A first window that runs over the end of the clip, as looped schedules have from the second step on."""
    reuse, strengths = (
        pack.submodule("sampling.context_extras.naive_reuse"),
        pack.submodule("motion_models.network.strength"),
    )
    chance = torch.Generator().manual_seed(2)
    clip, first, mask = (torch.rand(shape, generator=chance) for shape in ((7, 4, 2, 2), (3, 4, 2, 2), (7, 2, 2)))
    in_call = reuse.ReuseInCall([6, 0, 1], strengths.strength_of(mask, 7) if masked else 0.25)
    in_call.around_window(0, None, lambda call: [first])
    in_call.around_window(1, None, lambda call: [torch.zeros_like(first)])
    (found,) = in_call.blended([clip.clone()])
    for frame, of_first in {6: 0, 0: 1, 1: 2, 2: 0, 3: 1, 4: 2, 5: 0}.items():
        m = mask[frame] if masked else 0.25
        torch.testing.assert_close(found[frame], m * first[of_first] + (1 - m) * clip[frame])


@pytest.mark.parametrize("nothing", [{"weighted_mean": 0.0}, {"strength": 0.0}, {"end_percent": 0.0}])
def test_what_does_nothing_changes_no_bit(reusing, sample, nothing):
    found = sample(reusing("standard_static", 4, 2, **nothing), noise=clip_noise(8))
    assert torch.equal(found, sample(reusing("standard_static", 4, 2, plain=True), noise=clip_noise(8)))


def test_a_run_does_not_see_the_one_before(reusing, sample):
    model = reusing("looped_uniform", 4, 2)
    first = sample(model, noise=clip_noise(8))
    sample(reusing("standard_static", 3, 1, weighted_mean=0.3), noise=clip_noise(6))
    assert torch.equal(sample(model, noise=clip_noise(8)), first)


def test_a_clip_that_is_not_cut_is_left_alone(reusing, sample):
    found = sample(reusing("standard_static", 8, 2), noise=clip_noise(8))
    assert torch.equal(found, sample(reusing("standard_static", 8, 2, plain=True), noise=clip_noise(8)))
