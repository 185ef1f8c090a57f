"""Weights that cannot be right: what is no finite real number makes every picture black, or is no weight at all."""

from collections.abc import Mapping

import torch


def refuse_impossible_numbers(file_name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError, naming the tensor, if one holds anything but finite floating-point numbers.

    A single integer (such as the alpha of a LoRA) is let through.
    """
    for name, value in tensors.items():
        if value.is_floating_point():
            what = None if torch.isfinite(value.float()).all() else "holds NaN or infinity"
        elif value.is_complex():
            what = "holds complex numbers instead of weights"
        elif value.dtype == torch.bool:
            what = "holds booleans instead of weights"
        else:
            what = None if value.ndim == 0 else "holds integers instead of weights"
        if what is not None:
            raise ValueError(f"'{file_name}' cannot be used: its tensor {name} {what}. Download it again.")
