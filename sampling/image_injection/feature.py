"""Image injection as a feature of a run: it stops at some steps, and goes on from latents with a picture in them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from ...host import vae as host_vae
from ..feature import AfterStep, Feature, Pass, Run
from ..keyframes import start_sigmas
from .picture import InjectedPicture
from .segments import Segment, segments


class _LastDenoised:
    """What the model took for the finished clip after the last step."""

    latents: torch.Tensor | None = None

    def __call__(self, step: int, denoised: torch.Tensor, *_) -> None:
        self.latents = denoised


@dataclass(frozen=True, eq=False)
class ImageInjection(Feature):
    """``pictures`` in ascending order of their start.

    Around the sampling itself, inside of what lasts for a pass: motion models, windows and guidance go on across the
    segments, with their keyframes. Steps are counted anew in each, as the host does.
    """

    pictures: tuple[InjectedPicture, ...]

    def check(self, run: Run) -> None:
        for picture in self.pictures:
            host_vae.check(picture.vae, run.latents.shape[1], "Image Injection")
        used = {segment.entry for segment in self.segments(run)}
        for i, picture in enumerate(self.pictures):
            if i not in used:
                logging.warning(
                    "[AnimateDiff] The picture of Image Injection at start_percent %g is not laid into the clip: no step of "
                    "this run begins there with another one behind it. Change start_percent, or raise the number of steps.",
                    picture.start_percent,
                )

    def segments(self, run: Run) -> list[Segment]:
        def timesteps(sigmas: torch.Tensor) -> list[float]:
            return run.model_sampling.timestep(sigmas).tolist()

        starts = torch.tensor(start_sigmas(self.pictures, run.model_sampling))
        return segments(timesteps(run.sigmas), timesteps(starts), [each.guarantee_steps for each in self.pictures])

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        made = start.latents
        for segment in self.segments(run):
            sigmas = run.sigmas[segment.first : segment.last + 1]
            begun = start if segment.first == 0 else _going_on(run, start, made, float(sigmas[0]))
            counted = (_in_whole_run(function, segment, run) for function in start.after_step)
            last = _LastDenoised()
            made = then(replace(begun, sigmas=sigmas, after_step=(*counted, last)))
            if segment.entry is not None and last.latents is not None:
                denoised = run.latent_format.process_out(last.latents).to(made)
                made = self.pictures[segment.entry].into(made, denoised)
        return made


def _in_whole_run(function: AfterStep, segment: Segment, run: Run) -> AfterStep:
    """``function``, told the steps of the run in place of those of the segment."""
    return partial(_told, function, segment.first, len(run.sigmas) - 1)


def _told(function: AfterStep, first: int, steps: int, step: int, denoised, latents, _) -> object:
    return function(first + step, denoised, latents, steps)


def _going_on(run: Run, start: Pass, made: torch.Tensor, sigma: float) -> Pass:
    """A pass that goes on from ``made``, which is as noisy as ``sigma`` says."""
    if run.denoise_mask is None:
        return replace(start, latents=made, noise=torch.zeros_like(made))
    # What is kept has to be the clip that came in, and its noise the rest: the host makes it as noisy as each step is.
    scaled, kept = (run.latent_format.process_in(latents) for latents in (made, start.latents.to(made)))
    return replace(start, noise=(scaled - kept) / sigma)
