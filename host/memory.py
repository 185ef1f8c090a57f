"""What the host thinks of memory."""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import comfy.cli_args
import comfy.model_management
import torch

# The host's margin, where it decides how many conds to take through the UNet together.
MARGIN = 1.5
# Pictures that a CPU takes at a time: with more, new pages of memory cost more than the weights that are read less often.
MOST_ON_CPU = 128

# GiB of free memory from which on releases since 0.24 keep what earlier prompts gave, where the user sets no other limit.
# (0.30 keeps it from 128 on; with the lower number it is asked for too little, never for too much.)
PLENTY = 96


def let_go_of_earlier_prompts() -> None:
    """Have the host drop now what it drops from its cache behind the next node: what prompts before this one gave.

    So that a model which nobody needs any more goes before the next one comes. Releases before 0.24 drop it when a prompt begins.
    """
    # not imported: releases before 0.16 have no such module, and in the others the host has it
    release = getattr(sys.modules.get("comfy.memory_management"), "extra_ram_release", None)
    if release is not None:
        chosen = getattr(comfy.cli_args.args, "cache_ram", ())
        total = comfy.model_management.total_ram / 2**10
        release(int((chosen[1] if len(chosen) > 1 else min(PLENTY, total)) * 2**30))


def fits(patcher, shape: Sequence[int], device: torch.device) -> bool:
    """Whether the host would take a batch of latents of this shape through the model of ``patcher`` in one call."""
    # releases before 0.16 ask for all models alike
    own = getattr(patcher, "get_free_memory", comfy.model_management.get_free_memory)
    return patcher.model.memory_required(list(shape)) * MARGIN < own(device)


def rows_that_fit(model, x: torch.Tensor, kept: int) -> int:
    """How many pictures of the size of ``x (batch, channels, height, width)`` a UNet call should hold beside ``kept`` bytes.

    ``model`` is the host's BaseModel; its own estimate of a call is taken.
    """
    free: Any = comfy.model_management.get_free_memory(x.device)
    most = int((free - kept) / (MARGIN * model.memory_required([1, *x.shape[1:]])))
    return max(1, min(most, MOST_ON_CPU) if x.device.type == "cpu" else most)


def rows_instead_of(model, kept: Callable[[torch.Tensor], int], shape: Sequence[int], chunk: int) -> int:
    """For how many pictures the host reckons with what a call for ``shape`` takes that holds ``chunk`` of them at a time.

    ``kept``: the bytes that the call holds for all of its pictures.
    """
    dtype = model.manual_cast_dtype or model.get_dtype()
    one = [1, *shape[1:]]
    share = kept(torch.empty(one, dtype=dtype, device="meta")) / model.memory_required(one)
    return min(shape[0], math.ceil(chunk + share * shape[0]))
