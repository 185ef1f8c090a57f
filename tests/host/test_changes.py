"""A change in a workflow costs what it changes: what is read and patched anew from one prompt to the next, by the host's executor."""

from __future__ import annotations

import builtins
import gc
import os
import sys
import time
import weakref
from pathlib import Path

import pytest
import safetensors.torch
import torch
from animatediff_dev_pack import import_file
from animatediff_tests_tiny import UNUSUAL, motion_model_tensors

FAULTS = Path(__file__).resolve().parents[1] / "faults"


def of_faults(name: str):
    full = f"animatediff_faults_{name}"
    return sys.modules.get(full) or import_file(full, FAULTS / f"{name}.py")


running, stand_ins = of_faults("running"), of_faults("stand_ins")
CACHES = ["CLASSIC", "RAM_PRESSURE"]  # the ones that releases before and after 0.24 begin with


@pytest.fixture
def prompts(pack, folder, request):
    """The host's executor, and files for its loaders: motion models one and two, MotionLoRAs zoom and pan, a domain adapter."""
    for seed, name in enumerate(("one", "two"), 1):
        tensors = motion_model_tensors(pack, UNUSUAL, name, seed=seed)
        safetensors.torch.save_file(tensors, os.path.join(folder("animatediff_models"), f"{name}.safetensors"))
    for seed, name in enumerate(("zoom", "pan"), 7):
        lora = stand_ins.motion_lora_tensors(tensors, seed=seed)
        safetensors.torch.save_file(lora, os.path.join(folder("animatediff_motion_lora"), f"{name}.safetensors"))
    adapter = os.path.join(folder("loras"), "adapter.safetensors")
    safetensors.torch.save_file(stand_ins.adapter_tensors(), adapter)
    with running.registered(pack, stand_ins.STAND_INS):
        yield running.Prompts(stand_ins.KEPT, cache=getattr(request, "param", "CLASSIC"))


with_both_caches = pytest.mark.parametrize("prompts", CACHES, indirect=True)

PLAIN = {"model_name": None, "loras": (), "scale": None, "seed": 3, "adapter": None, "text": 1, "loader": "three nodes"}
START = PLAIN | {"model_name": "one", "loras": (("zoom", 0.8), ("pan", 0.5)), "scale": 1.0, "adapter": 0.7}


def graph(**settings):
    """A prompt: checkpoint, motion model with MotionLoRAs and scale, sampler."""
    asked = START | settings
    g = running.Graph()
    model = g("TinyModel", seed=0)
    if asked["adapter"] is not None:
        model = g("AnimateDiffLoadDomainAdapter", model=model, lora_name="adapter.safetensors", scale=asked["adapter"])
    if asked["model_name"] is not None:
        before = {}
        for name, strength in asked["loras"]:
            lora = g("ADE_AnimateDiffLoRALoader", name=f"{name}.safetensors", strength=strength, **before)
            before = {"prev_motion_lora": lora}
        options = {"motion_lora": lora} if before else {}
        if asked["scale"] is not None:
            options["scale_multival"] = g("ADE_MultivalDynamic", float_val=asked["scale"])
        name = f"{asked['model_name']}.safetensors"
        if asked["loader"] == "one node":
            options |= {"model_name": name, "beta_schedule": "autoselect"}
            model = g("ADE_AnimateDiffLoaderGen1", model=model, **options)
        else:
            motion = g("ADE_LoadAnimateDiffModel", model_name=name)
            applied = g("ADE_ApplyAnimateDiffModelSimple", motion_model=motion, **options)
            model = g("ADE_UseEvolvedSampling", model=model, m_models=applied, beta_schedule="autoselect")
    sampled = g(
        "KSampler",
        model=model,
        positive=g("TinyCond", seed=asked["text"]),
        negative=g("TinyCond", seed=2),
        latent_image=g("TinyLatent", frames=4, seed=0),
        seed=asked["seed"],
        steps=2,
        cfg=4.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    )
    g("Keep", name="value", value=sampled)
    return g


def clip(prompts, **settings) -> torch.Tensor:
    return prompts.run(graph(**settings)).value["samples"]


class Watch:
    """The files of models that are opened, by name, and how many weights are patched."""

    def __init__(self):
        self.opened: list[str] = []
        self.patched = 0

    def forget(self) -> None:
        self.opened.clear()
        self.patched = 0


@pytest.fixture
def watch(host_path, monkeypatch) -> Watch:
    import comfy.lora

    watch = Watch()

    def note(path) -> None:
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).endswith(".safetensors"):
            watch.opened.append(Path(path).stem)

    def noting(function):
        def noted(path, *args, **kwargs):
            note(path)
            return function(path, *args, **kwargs)

        return noted

    def counted(*args, **kwargs):
        watch.patched += 1
        return real(*args, **kwargs)

    real = comfy.lora.calculate_weight
    monkeypatch.setattr(builtins, "open", noting(open))
    monkeypatch.setattr(safetensors, "safe_open", noting(safetensors.safe_open))
    monkeypatch.setattr(comfy.lora, "calculate_weight", counted)
    return watch


@with_both_caches
def test_the_watch_sees_files_and_patches(prompts, watch):
    clip(prompts)
    assert set(watch.opened) == {"one", "zoom", "pan", "adapter"}
    assert watch.patched > 10


# What is changed -> whether weights have to be patched again for it.
CHANGES = {
    "nothing": ({}, False),
    "seed": ({"seed": 4}, False),
    "prompt": ({"text": 5}, False),
    "scale": ({"scale": 1.4}, False),
    "no scale": ({"scale": None}, False),
    "strength of the first MotionLoRA": ({"loras": (("zoom", 0.3), ("pan", 0.5))}, True),
    "strength of the last MotionLoRA": ({"loras": (("zoom", 0.8), ("pan", 0.9))}, True),
    "a MotionLoRA less": ({"loras": (("zoom", 0.8),)}, True),
    "MotionLoRAs the other way round": ({"loras": (("pan", 0.5), ("zoom", 0.8))}, True),
    "strength of a MotionLoRA and the prompt": ({"loras": (("zoom", 0.3), ("pan", 0.5)), "text": 5}, True),
    "scale of the domain adapter": ({"adapter": 0.2}, True),
}


@with_both_caches
@pytest.mark.parametrize("loader", ["three nodes", "one node"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_reads_no_file_and_patches_nothing_that_stays(prompts, watch, change, loader):
    settings, patches = CHANGES[change]
    first = clip(prompts, loader=loader)
    watch.forget()
    changed = clip(prompts, loader=loader, **settings)
    assert watch.opened == []
    assert bool(watch.patched) == patches
    assert torch.equal(first, changed) == (not settings or change == "no scale")
    # and it is what it would be without anything before it
    fresh = running.Prompts(stand_ins.KEPT)
    assert torch.equal(clip(fresh, loader=loader, **settings), changed)


@with_both_caches
@pytest.mark.parametrize("loader", ["three nodes", "one node"])
@pytest.mark.parametrize(
    ("folder_of", "name"), [("animatediff_models", "one"), ("animatediff_motion_lora", "zoom"), ("loras", "adapter")]
)
def test_a_file_that_changed_under_its_name_is_read_again(prompts, watch, folder, loader, folder_of, name):
    first = clip(prompts, loader=loader)
    path = os.path.join(folder(folder_of), f"{name}.safetensors")
    tensors = safetensors.torch.load_file(path)
    tensors = {key: value.flip(0) if value.ndim == 2 else value.clone() for key, value in tensors.items()}
    safetensors.torch.save_file(tensors, path)
    past = time.time_ns() // 10  # an older one, as from an archive; another one in each test
    os.utime(path, ns=(past, past))
    watch.forget()
    second = clip(prompts, loader=loader)
    assert set(watch.opened) == {name}
    assert not torch.equal(first, second)


@with_both_caches
@pytest.mark.parametrize("loader", ["three nodes", "one node"])
def test_the_old_motion_model_goes_before_the_new_one_is_read(pack, prompts, monkeypatch, loader):
    """And everything is let go of by itself, not by a search for cycles, which comes when it comes."""
    files, weights = (pack.submodule(f"motion_models.files.{name}") for name in ("motion_model", "weights"))
    networks, seen = [], []
    make_patcher, values = files.make_patcher, weights.values

    def made(network, *args, **kwargs):
        networks.append(weakref.ref(network))
        return make_patcher(network, *args, **kwargs)

    def read(tensor):
        seen.append((len(networks), [i for i, network in enumerate(networks) if network() is not None]))
        return values(tensor)

    monkeypatch.setattr(files, "make_patcher", made)
    monkeypatch.setattr(weights, "values", read)
    gc.collect()
    gc.disable()
    try:
        for model_name in ("one", "two", "one", None, "two"):
            clip(prompts, model_name=model_name, loader=loader)
    finally:
        gc.enable()
    # (how many were made before, which of them are still there) as tensors are read
    assert dict.fromkeys(map(str, seen)) == dict.fromkeys(["(0, [])", "(1, [])", "(2, [])", "(3, [])"])


def test_models_of_others_stay_loaded(prompts):
    """The host's list of loaded models is left alone when a motion model goes."""
    import comfy.model_management

    model = stand_ins.model(5)
    comfy.model_management.load_models_gpu([model])
    for model_name in ("one", "two"):
        clip(prompts, model_name=model_name)
    assert model in comfy.model_management.loaded_models()
