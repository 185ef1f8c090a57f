"""ComfyUI's TorchCompileModel on an animated MODEL."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..host.compiling import backend_of, compile_apart, is_compiled, kept_out
from ..motion_models.network.compiled import operator, run_in_place, unet_call
from ..motion_models.network.injection import ELSEWHERE_KEY
from .animate import feature_of
from .feature import Feature, Pass, Run
from .motion.feature import Motion


@dataclass(frozen=True)
class Compiled(Feature):
    """What was compiled for an animated MODEL serves animated MODELs only, and never a setting that has changed."""

    def sample(self, run: Run, start: Pass, then: Callable[[Pass], torch.Tensor]) -> torch.Tensor:
        if is_compiled(run.model_options):
            motion = feature_of(run.patcher, Motion)
            # Where group norms join the frames of a clip, their number is in the code; with symbols for the size of the batch
            # around it, tracing takes minutes.
            dynamic = False if motion is not None and motion.joint_group_norm else None
            slots = _slots(backend_of(run.model_options))
            compile_apart(run.model_options, _apply_model_with(slots), dynamic)
        return then(start)


def _slots(backend: str | Callable) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """How slots are computed in compiled code: as one operator, or between two pieces of it.

    CUDA graphs are recorded of the pieces between slots: of code with slots in it there would be none.
    """
    return (operator() if backend != "cudagraphs" else None) or kept_out(run_in_place)


def _apply_model_with(slots: Callable) -> Callable:
    def apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        """APPLY_MODEL wrapper: compiled slots serve this UNet call."""
        options = transformer_options or {}
        with unet_call(executor.class_obj.diffusion_model, options):
            return executor(x, t, c_concat, c_crossattn, control, {**options, ELSEWHERE_KEY: slots}, **kwargs)

    return apply_model
