"""One denoiser call on a long clip: window by window, and the predictions blended."""

from collections.abc import Callable

import comfy.model_management
import torch

from .conditioning import WindowedControls, conds_of_window
from .fuse import RELATIVE, FuseContext, fuse_weights, relative_bias
from .schedules import Window

# conds, x, timestep, the window -> a prediction for each of the conds
Evaluate = Callable[[list, torch.Tensor, torch.Tensor, Window], list[torch.Tensor]]


def in_windows(
    evaluate: Evaluate,
    conds: list,
    x: torch.Tensor,
    timestep: torch.Tensor,
    windows: list[Window],
    fuse: str,
    context: FuseContext,
    controls: WindowedControls,
) -> list[torch.Tensor]:
    """Predictions for ``x (frames, channels, height, width)``, one for each of ``conds``, blended by ``fuse``.

    A window that lists a frame twice predicts it twice, and both predictions count.
    """
    blend = _RunningMean if fuse == RELATIVE else _WeightedMean
    blends = [blend(x) for _ in conds]
    controls.next_call()
    for window in windows:
        comfy.model_management.throw_exception_if_processing_interrupted()
        weights = relative_bias(window) if fuse == RELATIVE else fuse_weights(fuse, window, context)
        index = torch.tensor(window, device=x.device)
        of_window = conds_of_window(conds, window, len(x), controls)
        predictions = evaluate(of_window, x[index], timestep[index], window)
        weights = weights.to(x.device).view(-1, *[1] * (x.ndim - 1))
        for blended, prediction in zip(blends, predictions, strict=True):
            blended.add(index, prediction, weights)
    return [blended.result() for blended in blends]


class _WeightedMean:
    """Sum of weighted predictions over the sum of weights."""

    def __init__(self, x: torch.Tensor):
        self.sum = torch.zeros_like(x)
        self.weights = torch.zeros(len(x), *[1] * (x.ndim - 1), device=x.device)

    def add(self, index: torch.Tensor, prediction: torch.Tensor, weights: torch.Tensor) -> None:
        self.sum.index_add_(0, index, (prediction * weights).to(self.sum.dtype))
        self.weights.index_add_(0, index, weights)

    def result(self) -> torch.Tensor:
        return (self.sum / self.weights).to(self.sum.dtype)


class _RunningMean:
    """Each prediction is blended into the mean of those before it by its share of the weights so far.

    Only for windows that list no frame twice (the static schedule, where ``relative`` is offered).
    """

    def __init__(self, x: torch.Tensor):
        self.mean = torch.zeros_like(x)
        self.weights = torch.zeros(len(x), *[1] * (x.ndim - 1), device=x.device)

    def add(self, index: torch.Tensor, prediction: torch.Tensor, weights: torch.Tensor) -> None:
        before = self.weights[index]
        total = before + weights
        self.mean[index] = (self.mean[index] * (before / total) + prediction * (weights / total)).to(self.mean.dtype)
        self.weights[index] = total

    def result(self) -> torch.Tensor:
        return self.mean
