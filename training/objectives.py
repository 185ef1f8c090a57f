"""What a step of training minimises. All tensors are ``(clips, frames, channels, height, width)``.

Predictions and targets are in the network's own terms (``TrainingUNet.prediction``): noise, or v of v-prediction models.
"""

from collections.abc import Callable

import torch
from torch.nn.functional import mse_loss

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]

DEBIAS = 1.0


def epsilon(predicted: torch.Tensor, target: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mean squared error of the prediction over all frames (AnimateDiff, arXiv 2307.04725, equation 5)."""
    return mse_loss(predicted, target)


def appearance_debiased(predicted: torch.Tensor, target: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The error of the prediction, and that of its difference to one random anchor frame.

    What all frames share - the appearance of the training clip - drops out of the second term, so that the motion is
    learned and not the look (Zhao et al., "MotionDirector", arXiv 2310.08465, section 4.2):
    ``MSE(p, e) + MSE(a p - b p_k, a e - b e_k)`` with ``a = sqrt(b^2 + 1)``, ``b = 1`` and k the anchor.
    """
    anchor = int(torch.randint(target.shape[1], (), generator=generator))
    a, b = (DEBIAS**2 + 1) ** 0.5, DEBIAS

    def debiased(x: torch.Tensor) -> torch.Tensor:
        return a * x - b * x[:, anchor : anchor + 1]

    return mse_loss(predicted, target) + mse_loss(debiased(predicted), debiased(target))


OBJECTIVES: dict[str, Objective] = {"epsilon": epsilon, "appearance-debiased": appearance_debiased}


def picture_weights(sigma: torch.Tensor) -> torch.Tensor:
    """How much the error of the noise counts at ``sigma (clips,)``, so that the picture's counts alike where noise is high.

    The error of the noise is that of the picture times SNR: at sigma 25 a picture that moves the wrong way costs a hundredth of what it
    does at 2.5, and is not learned. SNR + 1 of the picture (Salimans and Ho, arXiv 2202.00512, section 4), which is the error of v.
    """
    return sigma**2 + 1


def min_snr_weights(sigma: torch.Tensor, gamma: float, predicts_v: bool) -> torch.Tensor:
    """How much the loss of clips at the noise levels ``sigma (clips,)`` counts (Hang et al., arXiv 2303.09556, section 3.4).

    ``min(SNR, gamma)`` as weight of the error of the picture; here of the error of the noise, which is that times SNR, or
    of v, which is that times SNR + 1. The signal has a variance of 1, so SNR is ``1 / sigma²``.
    """
    snr = sigma**-2
    return snr.clamp(max=gamma) / (snr + 1 if predicts_v else snr)


def level_weights(
    sigma: torch.Tensor, from_pure_noise: bool, predicts_v: bool, min_snr_gamma: float = 0.0
) -> torch.Tensor | None:
    """The weights of clips at ``sigma (clips,)`` that the settings ask for; None: all count alike. min-SNR-gamma goes first."""
    if min_snr_gamma:
        return min_snr_weights(sigma, min_snr_gamma, predicts_v)
    return picture_weights(sigma) if from_pure_noise and not predicts_v else None


def weighted(
    objective: str,
    predicted: torch.Tensor,
    target: torch.Tensor,
    weights: torch.Tensor | None,
    generator: torch.Generator,
) -> torch.Tensor:
    """The loss of one of OBJECTIVES, in which clips count as their ``weights (clips,)`` say."""
    if weights is not None:
        # every objective is a square of both: a weight of the loss is its root in each
        root = weights.sqrt().view(-1, 1, 1, 1, 1)
        predicted, target = predicted * root, target * root
    return OBJECTIVES[objective](predicted, target, generator)
