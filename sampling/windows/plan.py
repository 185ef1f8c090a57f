"""Which windows and views a run will have, step by step, without sampling: for pictures of them."""

from dataclasses import dataclass

import comfy.model_management
import comfy.samplers
import torch

from ...motion_models.network.views import View, Views
from ..animate import feature_of
from ..feature import Step
from ..schedules.sigma_schedules import total_steps
from .context import Context, Contexts, cut_by
from .fuse import RELATIVE, fuse_weights, relative_bias
from .in_run import Windows, WindowsInRun
from .schedules import Window


@dataclass(frozen=True, eq=False)
class PlannedWindow:
    """``weights (len(frames),)``: how much each frame counts where windows overlap. ``views`` index ``frames``."""

    frames: Window
    weights: torch.Tensor
    views: tuple[View, ...]


@dataclass(frozen=True, eq=False)
class PlannedStep:
    """The first denoiser call of a sampling step. ``context_index`` is its place among the contexts."""

    sigma: float
    context: Context
    context_index: int
    windows: tuple[PlannedWindow, ...]


def plan(contexts: Contexts, frames: int, model_sampling, sigmas: torch.Tensor, seed: int = 0) -> list[PlannedStep]:
    """One entry per step of a run over ``sigmas (steps + 1,)``; none if the clip of ``frames`` frames is not cut.

    Made by what sampling uses too, so the step counter, the contexts in force and the weights are those of the run.
    """
    if cut_by(contexts, frames) is None:
        return []
    run = WindowsInRun.of(contexts, frames, model_sampling, float(sigmas.max()), seed)
    return [_step(run, i, float(sigma)) for i, sigma in enumerate(sigmas[:-1])]


def _step(run: WindowsInRun, index: int, sigma: float) -> PlannedStep:
    """Heeds Stop."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    step = Step(index, lambda: sigma)
    context = run.context(step)
    fuse_context = run.fuse_context(run.frames, context.windows.overlap, context.fuse, step)
    planned = []
    for window in run.windows(context, step):
        relative = context.fuse == RELATIVE
        weights = relative_bias(window) if relative else fuse_weights(context.fuse, window, fuse_context)
        planned.append(PlannedWindow(window, weights, _each(run.views(context, len(window), step))))
    # not index(): equal contexts may follow each other
    place = next(i for i, other in enumerate(run.contexts) if other is context)
    return PlannedStep(sigma, context, place, tuple(planned))


def _each(views: Views | None) -> tuple[View, ...]:
    return () if views is None else views.each


def contexts_of(model) -> Contexts:
    """Those that the MODEL carries."""
    windows = feature_of(model, Windows)
    return () if windows is None else windows.contexts


def ksampler_sigmas(
    model,
    sampler: str,
    scheduler: str,
    steps: int,
    denoise: float = 1.0,
    start_step: int = 0,
    end_step: int | None = None,
) -> torch.Tensor:
    """The sigmas over which KSampler, or KSampler (Advanced) with ``start_step`` and ``end_step``, would sample.

    Raises ValueError where it would sample nothing, or too long a schedule.
    """
    if steps < 1 or denoise <= 0.0:
        raise ValueError("There are no steps to show: set steps to 1 or more and denoise above 0.")
    total_steps(steps, denoise)
    sigmas = comfy.samplers.KSampler(model, steps, "cpu", sampler, scheduler, denoise).sigmas
    if end_step is not None:
        sigmas = sigmas[: end_step + 1]
    if start_step >= len(sigmas) - 1:
        raise ValueError(
            f"There are no steps to show: start_step is {start_step}, but sampling ends after step {len(sigmas) - 1}. "
            "Lower start_step, or raise end_step and steps."
        )
    return sigmas[start_step:]


def coverage(steps: list[PlannedStep], frames: int) -> torch.Tensor:
    """The sum of the windows' weights on each frame in each step, ``(steps, frames)``."""
    total = torch.zeros(len(steps), frames)
    for row, step in zip(total, steps, strict=True):
        for window in step.windows:
            row.index_add_(0, torch.tensor(window.frames), window.weights)
    return total
