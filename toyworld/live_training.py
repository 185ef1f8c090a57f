"""The last stages of the toy world's training: on the live channels alone, in this process, in a tenth of the time.

The loop is that of *Train Motion Module* and *Train MotionLoRA*, with settings that they have, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from . import landscapes, live, motion, scenes, weights
from .prompts import precision
from .recipe import Bench, clips
from .videos import path_towards
from .worlds import LANDSCAPES, SCENES, World

MOTION_CLIPS = 960


@dataclass(frozen=True)
class Stretch:
    """A part of a motion module's training: steps of 4 clips, with a cosine of the learning rate and an average of its own."""

    steps: int
    learning_rate: float
    from_pure_noise: bool = True
    average: float = 0.98


# Usual training (``training.MOTION_STRETCHES``) teaches next to nothing at high noise: clips turned on their way.
STRETCHES = (Stretch(600, 7e-4), Stretch(480, 6e-4))
# Of landscapes, from the beginning.
LANDSCAPE_STRETCHES = (Stretch(1200, 1e-3, from_pure_noise=False), Stretch(1200, 7e-4), Stretch(2200, 7e-4))


@dataclass(frozen=True)
class MotionLora:
    """What the clips show, as ``recipe.clips`` makes them, how many there are, steps, and what differs from the node's defaults.

    ``paths``: the noise of each clip goes along what moves in it, and attention keeps to its box.
    """

    shown: Callable
    clips: int = 50
    changes: tuple[tuple[str, Any], ...] = ()
    paths: bool = False
    world: World = SCENES
    steps: int = 400


LORAS = {
    "right": MotionLora(path_towards("right")),
    "up": MotionLora(path_towards("up")),
    "left": MotionLora(path_towards("left")),
    # growth needs lower noise levels, too, and sizes that the still model has not seen
    "zoom-in": MotionLora(path_towards("zoom-in"), changes=(("end_percent", 1.0),), steps=900),
    # for the comparison with 50
    "right-5-clips": MotionLora(path_towards("right"), clips=5),
    # which follows Follow Path; its clips go everywhere, straight on and on curves
    "path": MotionLora(path_towards("ways"), clips=240, changes=(("rank", 48), ("alpha", 96.0)), paths=True),
    # where the patterns of the ground lie is decided later than where the shape is
    "landscapes-pan-left": MotionLora(
        partial(landscapes.panning, direction=np.pi), changes=(("end_percent", 0.75),), world=LANDSCAPES
    ),
    "landscapes-zoom-in": MotionLora(
        partial(landscapes.zooming, inwards=True), changes=(("end_percent", 0.75),), world=LANDSCAPES
    ),
}


def loras_of(world: World) -> list[str]:
    """Those of LORAS that are trained in a world."""
    return [name for name, recipe in LORAS.items() if recipe.world is world]


def refine_motion_module(bench: Bench) -> None:
    """Train the shipped motion module on, with ``from_pure_noise``, and ship the mean of what the stretches leave."""
    shown = clips(scenes.random_path, MOTION_CLIPS, seed=11)
    kept = list(motion_module_after(bench, live.text_to_image(adapter=True), bench.motion, shown, STRETCHES))
    weights.save_live("motion", {name: sum(one[name] for one in kept) / len(kept) for name in kept[0]}, 1)


def train_landscape_motion(bench: Bench) -> None:
    """Train the motion module of landscapes from the beginning, and ship it."""
    shown = clips(landscapes.any_motion, 2 * MOTION_CLIPS, seed=11, world=LANDSCAPES)
    fresh = live.motion_patcher_of(bench.pack, motion.untrained())
    for trained in motion_module_after(bench, bench.still, fresh, shown, LANDSCAPE_STRETCHES):
        weights.save_live(f"{LANDSCAPES.prefix}motion", trained, 1)


def motion_module_after(
    bench: Bench, still, start, shown: tuple[list[torch.Tensor], list[str]], stretches: Sequence[Stretch]
) -> Iterator[dict[str, torch.Tensor]]:
    """The weights of the motion model ``start`` after each of ``stretches``, trained on videos and captions around the MODEL ``still``."""
    submodule = bench.pack.submodule
    host, settings = submodule("host.training"), submodule("training.settings")
    unet, data = submodule("training.unet"), submodule("training.clips")
    inputs = (submodule("motion_models.network.call").MotionInputs(),)
    train = submodule("training.trainer").train

    pictures, captions = shown
    latents = [{"samples": bench.vae.encode(video)} for video in pictures]
    positive = [bench.conditioning[caption] for caption in captions]
    model = submodule("sampling.schedules.beta_schedules").with_schedule(still, start.model.spec.beta_schedule)
    trained = host.trainable_copy(start, torch.float32, host.training_device()).requires_grad_(True)
    for i, stretch in enumerate(stretches):
        of_stretch = settings.TrainingSettings(
            steps=stretch.steps,
            frames=bench.world.frames,
            batch=4,
            learning_rate=stretch.learning_rate,
            learning_rate_schedule="cosine",
            weight_decay=0.0,
            precision=precision(),
            checkpointing=False,
            seed=i,
            from_pure_noise=stretch.from_pure_noise,
            options=settings.TrainingOptions(ema=stretch.average, warmup_steps=50),
        )
        of_clips = data.TrainingData.of(latents, positive, bench.conditioning[""], of_stretch)
        dtype = host.compute_dtype(precision(), host.training_device())
        network = unet.TrainingUNet(model, [trained], dtype, checkpointing=False)
        network.prepare(of_clips.conditionings, of_clips.sizes, bench.world.frames)
        named = dict(trained.named_parameters())
        with torch.enable_grad(), train(network, named, of_clips, of_stretch, _nowhere, inputs):
            state = {name: value.detach().clone() for name, value in trained.state_dict().items()}
        trained.load_state_dict(state)
        print(f"motion module: {stretch.steps} steps more", flush=True)
        yield state


def _nowhere(path: str, steps: int) -> None:
    raise AssertionError("there are no checkpoints")


def train_motion_lora(bench: Bench, recipe: MotionLora, file: Path) -> None:
    """Train a MotionLoRA of the motion module that is shipped for its world, which is that of ``bench``.

    It is written to ``file``, with the channels that are zero.
    """
    shown = clips(recipe.shown, recipe.clips, world=recipe.world)
    changes = dict(recipe.changes)
    if recipe.paths:
        changes["paths"] = bench.paths(*shown)
    checkpoints, _ = bench.train(shown, changes, recipe.steps, seed=0, every=recipe.steps)
    files = bench.pack.submodule("lora.motion_lora")
    lora = files.read_motion_lora(str(checkpoints[recipe.steps]))
    file.parent.mkdir(parents=True, exist_ok=True)
    files.save_motion_lora(files.MotionLora(file.stem, live.full_lora(lora.pairs), lora.metadata), str(file))


def train_motion_loras(new_bench: Callable[[World], Bench], names: Sequence[str]) -> None:
    """Train those of LORAS and ship them."""
    for name in names:
        recipe = LORAS[name]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"toyworld-{name}.safetensors"
            train_motion_lora(new_bench(recipe.world), recipe, file)
            weights.save_live(f"lora-{name}", load_file(file), 1, weights.notes_of(file))
        print(f"{name}: done", flush=True)
