"""What a step of training minimises. All tensors are ``(clips, frames, channels, height, width)``."""

from collections.abc import Callable

import torch
from torch.nn.functional import mse_loss

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]

DEBIAS = 1.0


def epsilon(predicted: torch.Tensor, noise: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mean squared error of the predicted noise over all frames (AnimateDiff, arXiv 2307.04725, equation 5)."""
    return mse_loss(predicted, noise)


def appearance_debiased(predicted: torch.Tensor, noise: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The error of the noise, and that of its difference to one random anchor frame.

    What all frames share - the appearance of the training clip - drops out of the second term, so that the motion is
    learned and not the look (Zhao et al., "MotionDirector", arXiv 2310.08465, section 4.2):
    ``MSE(p, e) + MSE(a p - b p_k, a e - b e_k)`` with ``a = sqrt(b^2 + 1)``, ``b = 1`` and k the anchor.
    """
    anchor = int(torch.randint(noise.shape[1], (), generator=generator))
    a, b = (DEBIAS**2 + 1) ** 0.5, DEBIAS

    def debiased(x: torch.Tensor) -> torch.Tensor:
        return a * x - b * x[:, anchor : anchor + 1]

    return mse_loss(predicted, noise) + mse_loss(debiased(predicted), debiased(noise))


OBJECTIVES: dict[str, Objective] = {"epsilon": epsilon, "appearance-debiased": appearance_debiased}
