"""One denoiser call on a long clip: window by window, and the predictions blended."""

import math
from collections.abc import Callable, Iterator
from itertools import groupby

import comfy.model_management
import torch

from .conditioning import WindowedControls, conds_of_window
from .fuse import RELATIVE, FuseContext, fuse_weights, relative_bias
from .schedules import Window

# conds, x, timestep, the windows whose frames these are -> a prediction for each of the conds
Evaluate = Callable[[list, torch.Tensor, torch.Tensor, list[Window]], list[torch.Tensor]]


def in_windows(
    evaluate: Evaluate,
    conds: list,
    x: torch.Tensor,
    timestep: torch.Tensor,
    windows: list[Window],
    fuse: str,
    context: FuseContext,
    controls: WindowedControls,
    at_once: int = 1,
) -> list[torch.Tensor]:
    """Predictions for ``x (frames, channels, height, width)``, one for each of ``conds``, blended by ``fuse``.

    A window that lists a frame twice predicts it twice, and both predictions count. Up to ``at_once`` windows of equal length
    are evaluated together.
    """
    blend = _RunningMean if fuse == RELATIVE else _WeightedMean
    blends = [blend(x) for _ in conds]
    controls.next_call()
    for together in batches(windows, at_once):
        comfy.model_management.throw_exception_if_processing_interrupted()
        weights = [relative_bias(one) if fuse == RELATIVE else fuse_weights(fuse, one, context) for one in together]
        joined = [frame for window in together for frame in window]
        index = torch.tensor(joined, device=x.device)
        of_windows = conds_of_window(conds, joined, len(x), controls)
        predictions = evaluate(of_windows, x[index], timestep[index], together)
        for blended, prediction in zip(blends, predictions, strict=True):
            of_window = zip(index.chunk(len(together)), prediction.chunk(len(together)), weights, strict=True)
            for frames, predicted, weight in of_window:
                blended.add(frames, predicted, weight.to(x.device).view(-1, *[1] * (x.ndim - 1)))
    return [blended.result() for blended in blends]


def batches(windows: list[Window], at_once: int) -> Iterator[list[Window]]:
    """Windows in their order, up to ``at_once`` of equal length together, in batches as even as can be."""
    for _, equal in groupby(windows, len):
        of_length = list(equal)
        count = math.ceil(len(of_length) / at_once)
        for i in range(count):
            yield of_length[i * len(of_length) // count : (i + 1) * len(of_length) // count]


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
