"""Reuse Motion on tiny UNets: against transformers whose outputs are put back by hooks."""

from __future__ import annotations

import itertools

import pytest
import torch

NODE = "AnimateDiffReuseMotion"
STEPS = 6


@pytest.fixture
def nodes(pack):
    return {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").served()}


@pytest.fixture
def reuse(nodes):
    def put_on(model, every=2, start_percent=0.0, end_percent=1.0):
        values = {"every": every, "start_percent": start_percent, "end_percent": end_percent}
        return nodes[NODE].execute(model=model, **values).result[0]

    return put_on


@pytest.fixture
def small(pack, layouts, new_model, new_motion):
    """`small(contexts, **settings)`: an animated MODEL with the smallest of the UNets; ``settings`` of the motion model."""
    motion, animate = pack.submodule("sampling.motion.applied"), pack.submodule("sampling.evolved").animate
    model, motion_model = new_model(layouts["unusual"]), new_motion(layouts["unusual"])

    def make(contexts=(), **settings):
        applied = motion.apply(motion_model, motion.MotionSettings(**settings))
        return animate(model, applied, "autoselect", contexts)

    return make


@pytest.fixture
def windows(pack):
    """Static windows of 4 frames, an overlap of 2."""
    schedules, context = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    return (context.Context(schedules.WindowOptions("standard_static", 4, 2), "flat"),)


def transformers(model) -> list[torch.nn.Module]:
    (motion_model,) = model.get_additional_models_with_key("AnimateDiff")
    return [one for one in motion_model.model.modules() if type(one).__name__ == "TemporalTransformer"]


class Hooks:
    """``calls``: how often the first transformer ran. ``put_back``: at which steps what transformers give is that of before.

    ``calls_a_step``: UNet calls of a step, each of which has an output of its own.
    """

    def __init__(self, model, calls_a_step=1, put_back=()):
        self.count: dict[torch.nn.Module, int] = {}
        self.kept: dict[tuple, torch.Tensor] = {}
        self.calls_a_step, self.put_back = calls_a_step, put_back
        self.modules = transformers(model)

    def __enter__(self):
        self.handles = [module.register_forward_hook(self._hook) for module in self.modules]
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()

    @property
    def calls(self) -> int:
        (calls,) = set(self.count.values())
        return calls

    def _hook(self, module, _, output):
        number = self.count.get(module, 0)
        self.count[module] = number + 1
        step, of_step = divmod(number, self.calls_a_step)
        if step in self.put_back:
            return self.kept[module, of_step]
        self.kept[module, of_step] = output
        return None


@pytest.mark.parametrize(("every", "reused"), [(2, {1, 3, 5}), (3, {1, 2, 4, 5}), (1, set())])
def test_what_modules_add_is_that_of_the_step_before(small, reuse, sample, every, reused):
    model = reuse(small(), every)
    with Hooks(model) as hooks:
        clip = sample(model, steps=STEPS)
    assert hooks.calls == STEPS - len(reused)
    with Hooks(small(), put_back=reused):
        expected = sample(small(), steps=STEPS)
    assert torch.equal(clip, expected)
    assert torch.equal(clip, sample(small(), steps=STEPS)) == (not reused)


def test_each_window_has_its_own(small, reuse, sample, windows):
    model = reuse(small(windows))
    with Hooks(model) as hooks:
        clip = sample(model, steps=STEPS, frames=8)
    assert hooks.calls == 3 * STEPS / 2
    with Hooks(small(), calls_a_step=3, put_back={1, 3, 5}):
        expected = sample(small(windows), steps=STEPS, frames=8)
    assert torch.equal(clip, expected)


def test_only_inside_of_its_range(small, reuse, sample):
    model = reuse(small(), 2, 0.3, 0.7)
    with Hooks(model) as hooks:
        sample(model, steps=10)
    assert hooks.calls == 10 - 2


def test_conds_that_are_together_in_some_steps_only(small, reuse, sample, monkeypatch):
    """How many conds the host takes together depends on the memory that is free."""
    together = sample(reuse(small()), steps=STEPS)
    model = reuse(small())
    # at every second step the host reckons that there is not enough for both
    needed = itertools.cycle((1, 1, 1e15, 1e15, 1e15, 1))
    monkeypatch.setattr(model.model, "memory_required", lambda *args, **kwargs: next(needed))
    rows = []
    unet = model.model.diffusion_model
    handle = unet.input_blocks[0][0].register_forward_hook(lambda _, arguments, __: rows.append(len(arguments[0])))
    try:
        clip = sample(model, steps=STEPS)
    finally:
        handle.remove()
    assert len(set(rows)) == 2, "conds were together in all steps, or in none"
    error = float((clip - together).norm() / together.norm())
    assert error < 1e-5, error


def test_windows_that_move_are_computed(small, reuse, sample, pack):
    schedules, context = pack.submodule("sampling.windows.schedules"), pack.submodule("sampling.windows.context")
    moving = (context.Context(schedules.WindowOptions("looped_uniform", 4, 1, closed_loop=True), "flat"),)
    plain = sample(small(moving), frames=8)
    clip = sample(reuse(small(moving)), frames=8)
    assert clip.isfinite().all()
    assert (clip - plain).norm() < 0.5 * plain.norm()


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_sde", "dpm_adaptive", "lcm", "euler_cfg_pp"])
def test_samplers(small, reuse, sample, sampler):
    plain = sample(small(), sampler=sampler, steps=STEPS)
    clip = sample(reuse(small()), sampler=sampler, steps=STEPS)
    assert clip.isfinite().all()
    assert not torch.equal(clip, plain)
    assert torch.equal(sample(small(), sampler=sampler, steps=STEPS), plain)


def test_a_motion_model_that_stops_acting_stops(small, reuse, sample):
    def clip(**settings):
        return sample(reuse(small(**settings), every=16), steps=STEPS)

    assert not torch.equal(clip(end_percent=0.3), clip())
    stopping = small(end_percent=0.3)
    with Hooks(stopping, put_back=range(1, STEPS)):
        expected = sample(stopping, steps=STEPS)
    assert torch.equal(clip(end_percent=0.3), expected)


def test_motion_clone_sees_attention_as_it_is(nodes, small, reuse, sample):
    reference = torch.randn((4, 4, 8, 8), generator=torch.Generator().manual_seed(11)) * 5
    values = {"strength": 0.1, "start_percent": 0.0, "end_percent": 0.5, "up_block": 1}

    def cloned(model):
        return (
            nodes["AnimateDiffMotionClone"].execute(model=model, reference={"samples": reference}, **values).result[0]
        )

    for both in (reuse(cloned(small()), every=1), cloned(reuse(small(), every=1))):
        assert torch.equal(sample(both), sample(cloned(small())))
    for both in (reuse(cloned(small())), cloned(reuse(small()))):
        with Hooks(both) as hooks:
            clip = sample(both, steps=STEPS)
        assert clip.isfinite().all()
        assert max(hooks.count.values()) > STEPS / 2


def test_a_model_without_motion_models_is_told(new_model, layouts, reuse, sample):
    with pytest.raises(ValueError, match=r"has none\. Connect it behind"):
        sample(reuse(new_model(layouts["unusual"])))
