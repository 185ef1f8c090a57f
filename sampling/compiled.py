"""ComfyUI's TorchCompileModel on an animated MODEL."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..host.compiling import compile_apart, is_compiled
from ..motion_models.network.injection import stay_out_of_compiled_code
from .feature import Feature, Pass, Run


@dataclass(frozen=True)
class Compiled(Feature):
    """What was compiled for an animated MODEL serves animated MODELs only, and never a setting that has changed."""

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        if is_compiled(run.model_options):
            stay_out_of_compiled_code()
            compile_apart(run.model_options, run.patcher.get_model_object("diffusion_model"))
        return then(start)
