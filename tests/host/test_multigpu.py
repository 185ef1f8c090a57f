"""ComfyUI's MultiGPU CFG Split on animated MODELs. Two devices that a CPU has: PyTorch tells ``cpu`` from ``cpu:0``."""

from __future__ import annotations

import threading

import pytest
import torch
from animatediff_tests_tiny import tiny_model

SECOND = torch.device("cpu", 0)


@pytest.fixture
def split(host_path, monkeypatch):
    """A MODEL as MultiGPU CFG Split gives it on a machine with two devices."""
    multigpu = pytest.importorskip(
        "comfy_extras.nodes_multigpu", reason="ComfyUI before 0.24 has no nodes for several GPUs"
    )
    import comfy.model_management

    devices = [torch.device("cpu"), SECOND]
    monkeypatch.setattr(comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: devices)
    # the node fails on patchers of other tests that are gone while their models are still listed
    monkeypatch.setattr(comfy.model_management, "current_loaded_models", [])
    return lambda model: multigpu.MultiGPUCFGSplitNode.execute(model, max_gpus=2).result[0]


@pytest.fixture
def checkpoint(new_model, layouts):
    """A MODEL that the host can load once more for another device, as those of its loaders."""
    model = new_model(layouts["unusual"])
    model.cached_patcher_init = (tiny_model, (layouts["unusual"],))
    return model


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def on_second(model):
    """The patcher of the second device."""
    [clone] = model.get_additional_models_with_key("multigpu")
    assert clone.load_device == SECOND
    return clone


def motion_models_of(pack, model) -> list:
    return model.get_additional_models_with_key(pack.submodule("sampling.run").MODEL_KEY)


@pytest.fixture
def slots_by_thread(pack, monkeypatch):
    """Thread -> the motion modules that ran in it."""
    injection = pack.submodule("motion_models.network.injection")
    ran = {}
    here = injection.MotionSlot.here

    def watched(slot, x, options):
        ran.setdefault(threading.current_thread(), set()).add(slot.motion[0])
        return here(slot, x, options)

    monkeypatch.setattr(injection.MotionSlot, "here", watched)
    return ran


def test_prompts_are_computed_on_two_devices_each_with_a_motion_model_of_its_own(
    pack, split, checkpoint, new_motion, layouts, animate, sample, slots_by_thread
):
    animated = animate(checkpoint, new_motion(layouts["unusual"]))
    one = sample(animated)
    slots_by_thread.clear()
    both = split(animated)
    assert relative(sample(both), one) < 1e-4
    first, second = slots_by_thread.values()
    assert not first & second
    [ours], [theirs] = motion_models_of(pack, both), motion_models_of(pack, on_second(both))
    assert theirs.load_device == SECOND
    storages = {weight.data_ptr() for weight in ours.model.parameters()}
    assert not storages & {weight.data_ptr() for weight in theirs.model.parameters()}


@pytest.mark.parametrize("first", ["split", "animated"])
def test_the_order_of_the_nodes_does_not_count(first, split, checkpoint, new_motion, layouts, animate, sample):
    motion = new_motion(layouts["unusual"])
    one = sample(animate(checkpoint, motion))
    both = split(animate(checkpoint, motion)) if first == "animated" else animate(split(checkpoint), motion)
    assert relative(sample(both), one) < 1e-4
    assert relative(sample(both), one) < 1e-4
    for patcher in (both, on_second(both)):
        assert not any(type(layer).__name__ == "MotionSlot" for layer in patcher.model.diffusion_model.modules())


def test_clones_of_an_earlier_run_get_what_has_changed(split, checkpoint, new_motion, layouts, animate, sample):
    """ComfyUI keeps the clones of the last run; the LoRAs and the order of its motion models are not those of this one."""
    layout = layouts["unusual"]
    first, second = new_motion(layout), new_motion(layout, name="second", seed=2)
    changed = first.clone()  # as AnimateDiff: Apply Model with a MotionLoRA makes it
    name, weight = next((name, weight) for name, weight in first.model.named_parameters() if "to_q" in name)
    changed.add_patches({name: ("diff", (torch.ones_like(weight),))})
    for motion_models in ((first,), (changed,), (first, second), (second, first)):
        animated = animate(checkpoint, *motion_models)
        both = split(animated)
        assert relative(sample(both), sample(animated)) < 1e-4


@pytest.fixture
def variants(pack, checkpoint, new_motion, new_motion_file, layouts, animate):
    """MODELs that do more than one motion model over all frames, by what they do."""
    names = ("windows.context", "windows.schedules", "context_extras.extras", "context_extras.context_ref")
    context, schedules, extras, reference = (pack.submodule(f"sampling.{name}") for name in names)
    load = pack.submodule("motion_models.files.motion_model").load_motion_model
    on_model, evolved = pack.submodule("sampling.animate"), pack.submodule("sampling.evolved")
    layout = layouts["unusual"]
    animated = animate(checkpoint, new_motion(layout), end_percent=0.7)
    motion_models = on_model.feature_of(animated, pack.submodule("sampling.motion.feature").Motion).motion_models
    windows = (context.Context(schedules.WindowOptions("standard_static", 4, 2), "pyramid"),)
    tied = context.with_extras(windows, extras.ContextExtras(context_ref=reference.ContextRef()))
    unictrl = pack.submodule("sampling.cross_frame.unictrl").UniCtrl()
    return {
        "windows": evolved.animate(checkpoint, motion_models, "autoselect", windows),
        "ContextRef": evolved.animate(checkpoint, motion_models, "autoselect", tied),
        "UniCtrl": on_model.with_feature(animated, unictrl),
        "joint group norm": animate(checkpoint, load(new_motion_file(layout, name="v1", mid=False, frames=24))),
    }


def test_two_devices_make_the_clip_of_one(split, variants, sample):
    for name, model in variants.items():
        assert relative(sample(split(model), frames=6), sample(model, frames=6)) < 1e-4, name
