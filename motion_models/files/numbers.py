"""Weights that cannot be right: what is no finite real number makes every picture black, or is no weight at all."""

import math
from collections.abc import Mapping

import torch

from .errors import MotionModelFileError

# Bit patterns of float8 numbers, without the sign, from which on they are NaN or infinite: PyTorch cannot compare them.
FLOAT8 = {torch.float8_e4m3fn: 0x7F, torch.float8_e5m2: 0x7C}


def refuse_impossible_numbers(file_name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise MotionModelFileError, naming the tensor, if one holds anything but finite floating-point numbers.

    A single integer (such as the alpha of a LoRA) is let through. One pass over the weights: 0.1 s for 450 M of them.
    """
    refuse(file_name, {name: what for name, value in tensors.items() if (what := impossible(value))}, len(tensors))


def refuse(file_name: str, found: Mapping[str, str], count: int) -> None:
    """Raise MotionModelFileError if something is ``found``: what ``impossible`` says, by the name of the tensor, of ``count``."""
    if not found:
        return
    name, what = next(iter(found.items()))
    more = f" ({len(found) - 1} more of its {count} tensors are no better)" if len(found) > 1 else ""
    raise MotionModelFileError(
        f"'{file_name}' cannot be used: its tensor {name} {what}{more}. The training went wrong, or the file was converted "
        "or merged wrongly: download it again, or use another version of it."
    )


def impossible(value: torch.Tensor) -> str | None:
    """What is wrong with the values of a tensor, in words behind its name."""
    if value.is_meta:
        return "has no values"
    if value.layout != torch.strided or value.is_quantized:
        return "is sparse or quantised"
    if value.is_floating_point():
        return None if is_finite(value) else "holds NaN or infinity"
    return None if value.ndim == 0 and _is_integer(value) else f"holds {_kind(value)} instead of weights"


def is_finite(value: torch.Tensor) -> bool:
    """Whether a floating-point tensor is free of NaN and infinity."""
    if value.numel() == 0:
        return True
    if value.dtype in FLOAT8:
        return int(value.view(torch.uint8).bitwise_and(0x7F).amax()) < FLOAT8[value.dtype]
    if value.element_size() == 1:  # other float8 types
        value = value.float()
    # Not isfinite(value).all(): extremes take one pass, need no memory, do not overflow, and are NaN if anything is.
    return all(math.isfinite(extreme) for extreme in value.aminmax())


def _is_integer(value: torch.Tensor) -> bool:
    return not value.is_complex() and value.dtype != torch.bool


def _kind(value: torch.Tensor) -> str:
    return "complex numbers" if value.is_complex() else "integers" if _is_integer(value) else "booleans"
