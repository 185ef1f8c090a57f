"""Training on tiny networks of the host's own classes: what several files of tests train with."""

from __future__ import annotations

import glob
import os

import pytest
import torch

FRAMES = 4
LORAS = "animatediff_motion_lora"


@pytest.fixture
def training(pack):
    """`training("trainer")`: a module of the training layer."""
    return lambda name: pack.submodule(f"training.{name}")


@pytest.fixture
def new_latents():
    def new(clips: int = 3, frames: int = 6, size: int = 8, seed: int = 5) -> list[dict]:
        generator = torch.Generator().manual_seed(seed)
        return [{"samples": torch.randn(frames, 4, size, size, generator=generator)} for _ in range(clips)]

    return new


@pytest.fixture
def settings(training):
    def make(**changes):
        defaults = {"steps": 2, "frames": FRAMES, "learning_rate": 1e-2, "caption_dropout": 0.5}
        return training("trainer").TrainingSettings(**{**defaults, **changes})

    return make


@pytest.fixture
def with_gradients():
    """Call a function as a training node does: the host runs nodes in inference mode."""

    def call(function, *args, **kwargs):
        with torch.inference_mode(), torch.inference_mode(False), torch.enable_grad():
            return function(*args, **kwargs)

    return call


@pytest.fixture
def animated(animate, new_model, new_motion):
    """A MODEL with a tiny motion model, made in inference mode as the host makes them."""

    def new(**motion):
        with torch.inference_mode():
            return animate(new_model(), new_motion(**motion))

    return new


@pytest.fixture
def train_lora(training, animated, new_latents, positive, negative, settings, with_gradients):
    def run(model=None, latents=None, conditionings=None, rank=4, alpha=4.0, resume=None, node_id=None, **changes):
        return with_gradients(
            training("motion_lora").train_motion_lora,
            model or animated(),
            new_latents() if latents is None else latents,
            conditionings or [positive],
            negative,
            settings(**changes),
            rank,
            alpha,
            resume,
            node_id,
        )

    return run


@pytest.fixture
def train_module(training, new_model, new_latents, positive, negative, settings, with_gradients):
    def run(model=None, latents=None, conditionings=None, **changes):
        keywords = {name: changes.pop(name) for name in ("version", "start") if name in changes}
        return with_gradients(
            training("motion_module").train_motion_module,
            model or new_model(),
            new_latents() if latents is None else latents,
            conditionings or [positive],
            negative,
            settings(**changes),
            **keywords,
        )

    return run


@pytest.fixture
def train_adapter(training, new_model, new_latents, positive, negative, settings, with_gradients):
    def run(model=None, **changes):
        changes = {"frames": 1, "batch": 4, **changes}
        train = training("domain_adapter").train_domain_adapter
        return with_gradients(
            train, model or new_model(), new_latents(), [positive], negative, settings(**changes), rank=4, alpha=4.0
        )

    return run


@pytest.fixture
def options(training, folder):
    """`options(ema=0.9, checkpoints={...}, validation={...})`."""
    for key in (LORAS, "animatediff_models", "loras"):
        folder(key)  # emptied afterwards

    def make(checkpoints=None, validation=None, **values):
        module = training("settings")
        return module.TrainingOptions(
            checkpoints=None if checkpoints is None else module.CheckpointSettings(**{"clip": False, **checkpoints}),
            validation=None if validation is None else module.ValidationSettings(**validation),
            **values,
        )

    return make


@pytest.fixture
def option(pack):
    """`option("Checkpoints", every=…)`: what the node Training Checkpoints hands on."""
    nodes = {node.GET_SCHEMA().display_name: node for node in pack.submodule("nodes.training_options").NODES}
    return lambda name, **inputs: nodes[f"Training {name}"].execute(**inputs).result[0]


@pytest.fixture
def checkpoint_files(folder):
    """`checkpoint_files("*.state")`: the checkpoints' files of that pattern, by name."""
    path = folder(LORAS)
    return lambda pattern: sorted(os.path.basename(found) for found in glob.glob(os.path.join(path, pattern)))


@pytest.fixture
def checkpoint_path(folder):
    return lambda name: os.path.join(folder(LORAS), name)


@pytest.fixture
def nothing_unloaded(pack, monkeypatch):
    """Fail where training begins to unload models."""

    def free_memory():
        raise AssertionError("models were unloaded")

    monkeypatch.setattr(pack.submodule("host.training"), "free_memory", free_memory)


@pytest.fixture
def in_step(training, monkeypatch):
    """`in_step(3, do)`: call `do` with the loss of the third step; its result is the loss instead."""
    objectives = training("objectives").OBJECTIVES
    epsilon = objectives["epsilon"]

    def patch(step: int, do):
        calls = iter(range(1, 1000))

        def objective(*arguments):
            loss = epsilon(*arguments)
            return do(loss) if next(calls) == step else loss

        monkeypatch.setitem(objectives, "epsilon", objective)

    return patch


def out_of_memory(*_):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


def stop(*_):
    """What the host does once the user has pressed Stop."""
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(True)
    comfy.model_management.throw_exception_if_processing_interrupted()


def assert_same_lora(lora, expected) -> None:
    for name, (down, up) in expected.pairs.items():
        assert torch.equal(lora.pairs[name][0], down), name
        assert torch.equal(lora.pairs[name][1], up), name
