"""The last stage of the motion module's training: on the live channels alone, in this process, in a tenth of the time.

The loop is that of *Train Motion Module*, with settings that it has, too.
"""

from __future__ import annotations

import torch

from . import live, scenes, weights
from .recipe import Bench, clips

MOTION_CLIPS = 960
# Steps of 4 clips and learning rate, each with a cosine and an average of its own. Usual training (``training.MOTION_STRETCHES``)
# teaches next to nothing at high noise: clips turned on their way.
STRETCHES = ((600, 7e-4), (480, 6e-4))
AVERAGE = 0.98


def refine_motion_module(bench: Bench) -> None:
    """Train the shipped motion module on, with ``from_pure_noise``, and ship the mean of what the stretches leave."""
    submodule = bench.pack.submodule
    host, settings = submodule("host.training"), submodule("training.settings")
    unet, data = submodule("training.unet"), submodule("training.clips")
    inputs = (submodule("motion_models.network.call").MotionInputs(),)
    train = submodule("training.trainer").train

    pictures, captions = clips(scenes.random_path, MOTION_CLIPS, seed=11)
    latents = [{"samples": bench.vae.encode(video)} for video in pictures]
    positive = [bench.conditioning[caption] for caption in captions]
    schedule = bench.motion.model.spec.beta_schedule
    model = submodule("sampling.schedules.beta_schedules").with_schedule(live.text_to_image(adapter=True), schedule)
    trained = host.trainable_copy(bench.motion, torch.float32, host.training_device()).requires_grad_(True)
    kept = []
    for i, (steps, learning_rate) in enumerate(STRETCHES):
        of_stretch = settings.TrainingSettings(
            steps=steps,
            frames=scenes.FRAMES,
            batch=4,
            learning_rate=learning_rate,
            learning_rate_schedule="cosine",
            weight_decay=0.0,
            precision="fp32",
            checkpointing=False,
            seed=i,
            from_pure_noise=True,
            options=settings.TrainingOptions(ema=AVERAGE, warmup_steps=50),
        )
        shown = data.TrainingData.of(latents, positive, bench.conditioning[""], of_stretch)
        network = unet.TrainingUNet(model, [trained], torch.float32, checkpointing=False)
        network.prepare(shown.conditionings, shown.sizes, scenes.FRAMES)
        named = dict(trained.named_parameters())
        with torch.enable_grad(), train(network, named, shown, of_stretch, _nowhere, inputs):
            kept.append({name: value.detach().clone() for name, value in trained.state_dict().items()})
        trained.load_state_dict(kept[-1])
        print(f"motion module: {steps} steps more", flush=True)
    weights.save_live("motion", {name: sum(one[name] for one in kept) / len(kept) for name in kept[0]}, 1)


def _nowhere(path: str, steps: int) -> None:
    raise AssertionError("there are no checkpoints")
