"""The noise that ancestral samplers add at every step."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ...host.samplers import draws_default_noise
from ...host.told import Told
from ..feature import Feature, Pass, Run
from .generator import seeded

ANCESTRAL_TYPES = ("default", "constant")


class AncestralSeedError(Told, ValueError):
    """A list of seeds where one is needed."""


@dataclass(frozen=True)
class AncestralOptions(Feature):
    noise_type: str = ANCESTRAL_TYPES[0]
    seed_offset: int = 0
    seed_override: int | None = None

    def __post_init__(self):
        if isinstance(self.seed_override, (list, tuple)):
            raise AncestralSeedError(
                "seed_override of Ancestral Options is a list, but ancestral noise comes from one seed. Connect a single one."
            )

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        # made anew for each pass: its noise begins again
        return then(replace(start, sampler=self.applied(start.sampler, run.seed, run.noise.shape)))

    def applied(self, sampler, seed: int, shape: torch.Size):
        """A copy of the host's ``sampler`` that adds this noise; ``sampler`` itself where it adds none of this kind."""
        function = getattr(sampler, "sampler_function", None)
        if function is None or not draws_default_noise(function):
            return sampler
        seed = (seed if self.seed_override is None else self.seed_override) + self.seed_offset
        sampler = copy.copy(sampler)
        sampler.extra_options = {**sampler.extra_options, "noise_sampler": self._noise_sampler(seed, shape)}
        return sampler

    def _noise_sampler(self, seed: int, shape: torch.Size):
        constant = self.noise_type == "constant"
        drawn = (1, *shape[1:]) if constant else tuple(shape)
        generator = None

        def noise(sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
            nonlocal generator
            if generator is None:
                generator = seeded(seed, sigma.device)
            made = torch.randn(drawn, device=sigma.device, generator=generator)
            return made.expand(shape).clone() if constant else made

        return noise
