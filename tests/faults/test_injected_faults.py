"""Errors, Stop and lack of memory at every stage: what follows is as if nothing had happened."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import torch
from animatediff_faults_as_before import (
    bits,
    carried,
    changed_callables,
    host_callables,
    same_bits,
    structure,
)
from animatediff_faults_parts import Parts
from animatediff_faults_reliability import INJECTIONS
from animatediff_faults_stages import (
    AFTER_CALLS,
    AT,
    FAULT,
    PLACES,
    everything,
    faulty,
    files_below,
    progress_fails,
    reader_fails,
    writer_fails,
)
from animatediff_faults_stand_ins import CALLS, models_folder

pytestmark = pytest.mark.trial(INJECTIONS)
KINDS = ("error", "interrupt", "out of memory")
IN_SAMPLING = [name for name in PLACES if name != "pictures to be saved"]


def raised(kind: str, stage: str) -> BaseException:
    import comfy.model_management

    if kind == "interrupt":
        return comfy.model_management.InterruptProcessingException()
    if kind == "out of memory":
        return comfy.model_management.OOM_EXCEPTION("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if "saving" in stage:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return RuntimeError("the fault of this test")


@dataclass
class World:
    """The two prompts that must stay what they are, and all that could be left altered."""

    prompts: object
    plain: torch.Tensor
    animated: torch.Tensor
    calls: int
    networks: dict[str, torch.nn.Module]
    structures: dict[str, dict]
    bits: dict[str, dict]
    models: dict[str, object]
    carried: dict[str, dict]
    callables: dict
    runs: int = 0

    def sampled(self, animated: bool) -> torch.Tensor:
        self.runs += 1
        graph = Parts(salt=self.runs)
        if animated:
            everything(graph)
        else:
            graph.sample()
        return self.prompts.run(graph).value["samples"]


def files() -> dict[str, int]:
    import folder_paths

    return files_below(folder_paths.models_dir, folder_paths.get_output_directory(), folder_paths.get_temp_directory())


@pytest.fixture(scope="module")
def world(prompts) -> World:
    world = World(prompts, *[None] * 2, 0, *[{} for _ in range(5)], {})
    world.plain = world.sampled(animated=False)
    before = CALLS.unet
    world.animated = world.sampled(animated=True)
    world.calls = CALLS.unet - before
    graph = Parts()
    everything(graph)
    links = {node["class_type"]: [name, 0] for name, node in graph.prompt.items()}
    for name in ("TinyModel", "ADE_UseEvolvedSampling", "TinyControlNet"):
        graph.keep(links[name], name)
    # the MODELs that the host keeps from prompt to prompt: those that sampled
    kept = prompts.run(graph).kept
    plain, animated = kept["TinyModel"], kept["ADE_UseEvolvedSampling"]
    world.models = {"plain": plain, "animated": animated}
    world.networks = {"UNet": plain.model.diffusion_model, "ControlNet": kept["TinyControlNet"].control_model}
    motion_models = [patcher.model for models in animated.additional_models.values() for patcher in models]
    assert len(motion_models) == 2
    world.networks |= {f"motion model {index}": network for index, network in enumerate(motion_models)}
    assert torch.equal(world.sampled(animated=False), world.plain)
    assert torch.equal(world.sampled(animated=True), world.animated)
    world.structures = {name: structure(network) for name, network in world.networks.items()}
    world.bits = {name: bits(network) for name, network in world.networks.items()}
    world.carried = {name: carried(model) for name, model in world.models.items()}
    world.callables = host_callables()
    return world


def assert_as_before(world: World, files_before: dict[str, int]) -> None:
    """At once, and after a plain and an animated run, which give what they gave."""
    unet = world.networks["UNet"]
    assert structure(unet) == world.structures["UNet"]
    assert same_bits(unet, world.bits["UNet"])
    assert files() == files_before
    assert torch.equal(world.sampled(animated=False), world.plain)
    assert torch.equal(world.sampled(animated=True), world.animated)
    for name, network in world.networks.items():
        assert structure(network) == world.structures[name], name
        assert same_bits(network, world.bits[name]), name
    for name, model in world.models.items():
        assert carried(model) == world.carried[name], name
        assert not model.is_injected, name
    assert not changed_callables(world.callables)


def causes(error: BaseException | None):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def assert_told(kind: str, outcome, exception: BaseException) -> None:
    """Stop stays a Stop and lack of memory one for the host, which acts upon them; an error is that very one."""
    assert outcome.error is not None, "the fault was swallowed"
    assert exception in causes(outcome.error)
    if kind != "error":
        assert isinstance(outcome.error, type(exception)), outcome.message


@pytest.fixture(autouse=True)
def no_fault_left():
    yield
    FAULT.clear()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", IN_SAMPLING)
def test_in_a_sampler_run(world, place, kind):
    import comfy.model_management

    graph = Parts(salt=f"{place} {kind}")
    everything(graph, place)
    before, exception = files(), raised(kind, place)
    if place == "loading weights":
        comfy.model_management.unload_all_models()  # else they are where they belong already
    at = {"middle call of the UNet": world.calls // 2, "last call of the UNet": world.calls} | AT
    FAULT.arm(exception, at.get(place, 1), AFTER_CALLS.get(place, 0))
    outcome = world.prompts.run(graph)
    assert FAULT.hits == 1
    FAULT.clear()
    assert_told(kind, outcome, exception)
    assert_as_before(world, before)


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_callback_of_a_step(world, kind):
    graph = Parts(salt=f"callback {kind}")
    everything(graph)
    before, exception = files(), raised(kind, "callback")
    FAULT.arm(exception, 2, after_calls=1)
    with progress_fails():
        outcome = world.prompts.run(graph)
    assert FAULT.hits == 1
    assert_told(kind, outcome, exception)
    assert_as_before(world, before)


READING = {
    "motion model": ("animatediff_models", "v2", "ADE_LoadAnimateDiffModel", "model_name"),
    "MotionLoRA": ("animatediff_motion_lora", "zoom", "ADE_AnimateDiffLoRALoader", "name"),
    "domain adapter": ("loras", "adapter", "AnimateDiffLoadDomainAdapter", "lora_name"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", READING)
def test_reading_a_file(world, what, kind):
    folder, source, node, name = READING[what]
    folder = models_folder(folder)
    copied = os.path.join(folder, f"read {kind}.safetensors")  # not one that the host has in its caches
    shutil.copy(os.path.join(folder, f"{source}.safetensors"), copied)
    try:
        graph = Parts()
        graph.keep(graph(node, **{name: os.path.basename(copied)}))
        before, exception = files(), raised(kind, "reading")
        FAULT.arm(exception)
        with reader_fails():
            outcome = world.prompts.run(graph)
        assert FAULT.hits == 1
        assert_told(kind, outcome, exception)
        assert_as_before(world, before)
        # and the file, which is whole, can be read now
        assert not world.prompts.run(graph).refused
    finally:
        os.remove(copied)


SAVING = {
    "motion model": ("AnimateDiffSaveMotionModel", {}),
    "MotionLoRA": ("AnimateDiffSaveMotionLoRA", {}),
    "domain adapter": ("AnimateDiffSaveDomainAdapter", {}),
    "GIF": ("ADE_AnimateDiffCombine", {"format": "image/gif"}),
    "WebP": ("ADE_AnimateDiffCombine", {"format": "image/webp"}),
    "MP4": ("ADE_AnimateDiffCombine", {"format": "video/h264-mp4"}),
    "WebM": ("ADE_AnimateDiffCombine", {"format": "video/webm"}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", SAVING)
def test_saving_leaves_no_part_of_a_file(world, what, kind):
    node, inputs = SAVING[what]
    graph = Parts(salt=f"saving {what} {kind}")
    clip = node == "ADE_AnimateDiffCombine"
    if clip:
        inputs = {**inputs, "images": faulty(graph, "pictures to be saved", graph("TinyPictures"))}
    graph(node, filename_prefix=f"{what} {kind}", **inputs)
    before, exception = files(), raised(kind, "saving")
    FAULT.arm(exception, at=12 if clip else 1)  # of pictures: when some of them are written
    with ExitStack() as stack:
        if not clip:
            stack.enter_context(writer_fails())
        outcome = world.prompts.run(graph)
    assert FAULT.hits == 1
    FAULT.clear()
    assert_told(kind, outcome, exception)
    assert_as_before(world, before)
    # now that nothing goes wrong, it is saved
    assert not world.prompts.run(graph).refused
    made = files().keys() - before.keys()
    assert made
    for path in made:
        os.remove(path)


TRAINING = ("AnimateDiffTrainMotionLoRA", "AnimateDiffTrainDomainAdapter", "AnimateDiffTrainMotionModule")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("node", TRAINING)
def test_in_training(world, caplog, node, step, kind):
    """In the first step nothing is learned yet; Stop and lack of memory in a later one keep what was."""
    graph = Parts(salt=f"{node} {step} {kind}")
    model = faulty(graph, "spatial attention", graph("TinyModel"))
    model = graph.animate(model) if node == TRAINING[0] else model
    graph.keep(graph(node, model=model, steps=4, gradient_checkpointing=False, frames=4))
    before, exception = files(), raised(kind, "training")
    FAULT.arm(exception, at=step)
    with caplog.at_level(logging.WARNING):
        outcome = world.prompts.run(graph)
    assert FAULT.hits == 1
    FAULT.clear()
    if step > 1 and kind != "error":
        assert not outcome.refused, outcome.message
        assert f"after {step - 1} of 4 steps" in caplog.text
    elif kind == "out of memory":
        assert "memory ran out" in outcome.message
    else:
        assert_told(kind, outcome, exception)
    assert_as_before(world, before)
