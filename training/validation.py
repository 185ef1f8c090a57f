"""The loss on clips that training does not see, always at the same noise: whether it learns or memorises."""

import torch

from .clips import Clips
from .objectives import level_weights, weighted
from .settings import TrainingSettings
from .unet import TrainingUNet

LEVELS = 4  # noise levels for each clip, spread evenly over those that are trained


@torch.no_grad()
def validation_loss(unet: TrainingUNet, clips: Clips, settings: TrainingSettings, inputs: tuple) -> float:
    """The mean loss of the first frames of each of ``clips`` at LEVELS noise levels, with one noise for each clip and level.

    The same weights give the same number, whatever the seed of the training. Heeds Stop between evaluations.
    """
    low, high = settings.timesteps(unet.timesteps)
    levels = [low + (high - low) * (2 * level + 1) // (2 * LEVELS) for level in range(LEVELS)]
    generator = torch.Generator().manual_seed(0)
    losses = []
    for latents, conditioning in zip(clips.latents, clips.conditioning, strict=True):
        shown = latents[None, : settings.frames]
        for level in levels:
            noise = torch.randn(shown.shape, generator=generator).to(unet.device)
            sigma = unet.sigma(torch.tensor([level]))
            found = unet.prediction(
                shown.to(unet.device), noise, sigma, [conditioning], inputs, settings.from_pure_noise
            )
            weights = level_weights(sigma, settings.from_pure_noise, unet.predicts_v)
            losses.append(weighted(settings.objective, *found, weights, generator))
    return torch.stack(losses).mean().item()
