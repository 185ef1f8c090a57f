"""What the host thinks of memory."""

from collections.abc import Sequence
from typing import Any

import comfy.model_management
import torch

# The host's margin, where it decides how many conds to take through the UNet together.
MARGIN = 1.5


def fits(patcher, shape: Sequence[int], device: torch.device) -> bool:
    """Whether the host would take a batch of latents of this shape through the model of ``patcher`` in one call."""
    # releases before 0.16 ask for all models alike
    own = getattr(patcher, "get_free_memory", comfy.model_management.get_free_memory)
    return patcher.model.memory_required(list(shape)) * MARGIN < own(device)


def rows_that_fit(model, x: torch.Tensor, kept: int) -> int:
    """How many pictures of the size of ``x (batch, channels, height, width)`` a UNet call can hold beside ``kept`` bytes.

    ``model`` is the host's BaseModel; its own estimate of a call is taken.
    """
    free: Any = comfy.model_management.get_free_memory(x.device)
    return max(1, int((free - kept) / (MARGIN * model.memory_required([1, *x.shape[1:]]))))
