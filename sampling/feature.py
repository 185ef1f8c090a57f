"""What a feature of a run is made of, and the facts that it may ask for.

A feature - windows, noise, guidance, a motion model - is one object on a MODEL. ``run.py`` knows none of them by name:
it makes the facts and gives each feature its moments. docs/adding-a-feature.md shows one from end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch

from ..motion_models.network.views import Views
from .windows.schedules import Window

Predictions = list[torch.Tensor]


@dataclass(frozen=True, eq=False)
class Run:
    """One run of the host's sampler on a clip of ``frames`` frames, from its first pass to its last.

    ``latents (frames, channels, height, width)`` and ``noise`` are what the sampler node gave, the latents in the scale
    of the VAE; ``sigmas (steps + 1,)`` descend, on the CPU. ``guider`` is the host's, and so are its ``conds`` and
    ``model_options``, copies that it made for this run. ``denoise_mask`` says where the clip is made anew (1) and where
    it keeps its latents (0); None: everywhere anew.
    """

    guider: Any
    latents: torch.Tensor
    noise: torch.Tensor
    sigmas: torch.Tensor
    seed: int
    denoise_mask: torch.Tensor | None = None

    @property
    def frames(self) -> int:
        return self.latents.shape[0]

    @property
    def patcher(self):
        return self.guider.model_patcher

    @property
    def model_options(self) -> dict:
        return self.guider.model_options

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    @property
    def model_sampling(self):
        return self.patcher.get_model_object("model_sampling")

    @property
    def latent_format(self):
        return self.patcher.get_model_object("latent_format")

    @property
    def first_sigma(self) -> float:
        return float(self.sigmas.max())


@dataclass(frozen=True, eq=False)
class Step:
    """Where a denoiser call stands: ``index`` counts the steps of the pass as the sampler's callback does."""

    index: int
    read_sigma: Callable[[], float]

    @classmethod
    def of(cls, index: int, timestep: torch.Tensor) -> Step:
        return cls(index, cache(lambda: float(timestep[0])))

    @property
    def sigma(self) -> float:
        """The noise level. It lives on the GPU and reading it waits for the GPU: ask only where something depends on it."""
        return self.read_sigma()


@dataclass(frozen=True, eq=False)
class Call:
    """One denoiser call: what the host's calc_cond_batch is asked for, and which frames of the clip these are.

    ``x (windows * frames, channels, height, width)``. ``window`` None means all frames of the clip. Several ``windows`` of
    equal length may share a call; their frames stand one behind the other in ``window``, as they do in ``x``. ``chunk``: how
    many frames spatial layers see at a time (0: as many as fit into memory; None: all), ``skips_in_ram``: whether the UNet's skip
    connections are kept there. ``options`` are added to the transformer_options that the UNet sees.
    """

    run: Run
    step: Step
    conds: list
    x: torch.Tensor
    timestep: torch.Tensor
    model_options: dict
    window: Window | None = None
    windows: int = 1
    views: Views | None = None
    chunk: int | None = None
    skips_in_ram: bool = False
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Of each window."""
        return self.x.shape[0] // self.windows

    def each_window(self) -> list[Window | None]:
        if self.window is None:
            return [None]
        return [self.window[start : start + self.frames] for start in range(0, len(self.window), self.frames)]

    @property
    def transformer_options(self) -> Mapping[str, Any]:
        """Those of the MODEL, and what features added to them."""
        return {**self.model_options["transformer_options"], **self.options}

    @property
    def negatives(self) -> frozenset[int]:
        """The places of the negative prompt among the conds: where the guider's is, else where the host's has it."""
        negative = self.run.guider.conds.get("negative")
        named = frozenset(place for place, cond in enumerate(self.conds) if cond is not None and cond is negative)
        return named or frozenset({1} if len(self.conds) > 1 else ())

    def with_options(self, **options) -> Call:
        return replace(self, options={**self.options, **options})


Denoise = Callable[[Call], Predictions]
# A function around each denoiser call: it may look at the call, change it, make several of it, change what comes out.
AroundCall = Callable[[Call, Denoise], Predictions]


# Called after each step, as the host does: (step, denoised, latents on the way, number of steps). Both are in the model's
# scale.
AfterStep = Callable[[int, torch.Tensor, torch.Tensor, int], object]


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass over the sampling schedule: what it begins with, and what goes on around its denoiser calls.

    ``sigmas`` are those of the run, or some of them in a row: a part of the schedule.
    """

    noise: torch.Tensor
    latents: torch.Tensor
    sampler: Any
    sigmas: torch.Tensor
    after_step: tuple[AfterStep, ...] = ()
    around_calls: tuple[AroundCall, ...] = ()

    def around_each_call(self, function: AroundCall) -> Pass:
        """``function`` is put inside of those before it."""
        return replace(self, around_calls=(*self.around_calls, function))


class Feature:
    """Something that a MODEL does in a run beyond the host's own sampling.

    Immutable: a feature holds what the user asked for. Whatever lasts for one pass is a local variable of ``sample``.
    ``one_window_each``: the name of a feature that cannot work where several context windows share a UNet call.
    """

    one_window_each: str | None = None

    def attach(self, model) -> None:
        """Put on the MODEL (a clone made for it) what the host must know before a run begins."""

    def detach(self, model) -> None:
        """Take from the MODEL (a clone) what ``attach`` put on it."""

    def check(self, run: Run) -> None:
        """Raise, in words, before the GPU works."""

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        """Around the sampling: call ``then`` with the pass, changed or not, once or several times, and give its latents."""
        return then(start)
