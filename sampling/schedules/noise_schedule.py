"""The noise schedule of a MODEL."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...host.model_sampling import is_ours, keep_on
from ..feature import Feature, Pass, Run


@dataclass(frozen=True, eq=False)
class NoiseSchedule(Feature):
    """``sampling``: the host's model_sampling object that takes the place of the MODEL's; None leaves it as it is.

    ``name`` is what the user chose. It stays on the MODEL when the other features are taken off.
    """

    sampling: torch.nn.Module | None = None
    name: str = ""

    def attach(self, model) -> None:
        if self.sampling is None:
            return
        before = model.object_patches.get("model_sampling")
        if before is not None and not is_ours(before):
            logging.warning(
                "[AnimateDiff] The noise schedule that a node before (such as ModelSamplingDiscrete) put on the MODEL has no "
                "effect: %s takes its place. To keep it, choose beta_schedule 'use existing'.",
                self.name,
            )
        model.add_object_patch("model_sampling", self.sampling)

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        keep_on(run.model_sampling, run.device)
        return then(start)
