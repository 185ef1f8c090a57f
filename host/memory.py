"""How much fits into the memory that is free."""

from typing import Any

import comfy.model_management
import torch


def rows_that_fit(model, x: torch.Tensor, kept: int) -> int:
    """How many pictures of the size of ``x (batch, channels, height, width)`` a UNet call can hold beside ``kept`` bytes.

    ``model`` is the host's BaseModel; its own estimate of a call is taken.
    """
    free: Any = comfy.model_management.get_free_memory(x.device)
    return max(1, int((free - kept) / model.memory_required([1, *x.shape[1:]])))
