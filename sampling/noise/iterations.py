"""Sampling a clip several times over, each time from what the time before made."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch

from ..feature import Pass, Run
from .free_init import low_pass_filter, mixed_frequencies

FREEINIT_TYPES = ("FreeInit [sampler sigma]", "FreeInit [model sigma]", "DinkInit_v1")
DINKINIT = FREEINIT_TYPES[2]


class NewNoise(Protocol):
    """The run's noise anew, with offsets added."""

    def __call__(self, batch_offset: int, seed_offset: int) -> torch.Tensor: ...


@dataclass(frozen=True)
class Iterations:
    """Each time begins with the clip of the time before. Without offsets the noise stays the same."""

    count: int = 1
    batch_offset: int = 0
    seed_offset: int = 0

    def new_noise(self, index: int, noise: NewNoise) -> torch.Tensor:
        return noise(index * self.batch_offset, index * self.seed_offset)

    def start(self, index: int, last: Pass, made: torch.Tensor, first: Pass, noise: NewNoise, run: Run) -> Pass:
        """How iteration ``index`` begins; ``last`` is how the one before began, ``made`` its clip (at 0 the input)."""
        if index == 0:
            return first
        changed = self.batch_offset != 0 or self.seed_offset != 0
        return replace(last, noise=self.new_noise(index, noise) if changed else last.noise, latents=made)


@dataclass(frozen=True)
class FreeInit(Iterations):
    """Each time begins with the input latents and noise whose low frequencies come from the clip of the time before.

    The clip is noised as at timestep ``sigma_step`` of 1000 with the noise that it was made from.
    """

    filter: str = "gaussian"
    d_s: float = 0.25
    d_t: float = 0.25
    n_butterworth: int = 4
    sigma_step: int = 999
    apply_to_first: bool = False
    init_type: str = FREEINIT_TYPES[0]

    def start(self, index: int, last: Pass, made: torch.Tensor, first: Pass, noise: NewNoise, run: Run) -> Pass:
        if index == 0 and not self.apply_to_first:
            return first
        device, dtype = made.device, made.dtype
        low_pass = low_pass_filter(self.filter, made.shape, self.d_s, self.d_t, self.n_butterworth).to(made)
        sigma = self._sigma(run.model_sampling)
        if self.init_type == DINKINIT:
            alpha = 1 / (sigma**2 + 1)
            noised = (made + first.noise.to(made) * sigma) * alpha
        else:
            # the latents are in the VAE's scale
            sigma = sigma / run.latent_format.scale_factor
            alpha = 1 / (sigma**2 + 1)
            noised = alpha**0.5 * made + (1 - alpha) ** 0.5 * last.noise.to(made)
        fresh = self.new_noise(index, noise).to(device, dtype)
        return replace(first, noise=mixed_frequencies(noised, fresh, low_pass))

    def _sigma(self, model_sampling) -> float:
        table = model_sampling.sigmas
        if len(table) == 1000:
            return float(table[self.sigma_step])
        # Tables of fewer steps (LCM): counted from the end of the table, as ADE does; where that leads out of it, the
        # noise level at that of 1000 timesteps.
        from_end = self.sigma_step - 1000
        if from_end >= -len(table):
            return float(table[from_end])
        return float(model_sampling.sigma(torch.tensor(float(self.sigma_step))))
