"""The noise a clip starts from, and passes that begin anew from what the one before made."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from ..feature import Feature, Pass, Run
from .initial import FREENOISE, NoiseSettings, NoiseWindow
from .iterations import Iterations


@dataclass(frozen=True, eq=False)
class StartNoise(Feature):
    """``window_of(frames)``: the windows that repeated and shuffled noise goes by."""

    noise: NoiseSettings = field(default_factory=NoiseSettings)
    iterations: Iterations = field(default_factory=Iterations)
    window_of: Callable[[int], NoiseWindow | None] = lambda frames: None

    def check(self, run: Run) -> None:
        self.noise.check(run.latents, (self.iterations.count - 1) * self.iterations.batch_offset)
        window = self.window_of(run.frames)
        if window is not None and window.closed_loop and FREENOISE in self.noise.noise_types:
            logging.warning(
                "[AnimateDiff] FreeNoise was made for clips with an end: where closed_loop ties the end to the beginning, "
                "frames of one window may begin from the same noise. If the clip stands still there, choose "
                "noise_type default."
            )

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        window = self.window_of(run.frames)
        # later stages of KSamplerAdvanced add no noise
        added = self.noise.noise(run.seed, run.latents, run.noise, window) if torch.any(run.noise) else run.noise
        new_noise = partial(self.noise.noise, run.seed, run.latents, added, window, force=True)
        begun = first = replace(start, noise=added)
        made = run.latents
        for i in range(self.iterations.count):
            begun = self.iterations.start(i, begun, made, first, new_noise, run)
            made = then(begun)
        return made
