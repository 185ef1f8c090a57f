"""Motion models with quantised weights: scaled float8 is brought back to numbers, other kinds are told by their name."""

import re

import torch

from ..layouts import Tensors
from .errors import MotionModelFileError
from .numbers import FLOAT8
from .stored import stored, values

# How the names of tensors end that only quantised files have -> what made them.
TOOLS = {
    r"\.(absmax|quant_map|quant_state\.\w+|SCB|weight_format)": "bitsandbytes",
    r"\._data|\._scale|\._shift": "Quanto",
    r"\._weight_(qdata|scale|zero_point)": "torchao",
    r"\.(qweight|qzeros|g_idx)": "GPTQ or AWQ",
    r"\.weight_scale_2": "ComfyUI (NVFP4)",
}
# A layer's float8 weight is to be multiplied by one number, or one for each row: of ComfyUI's older and newer files.
SCALE = re.compile(r"\.(scale_weight|weight_scale)$")
# What only calculation in float8 needs.
UNUSED = re.compile(r"\.(scale_input|input_scale|comfy_quant)$")


def unquantised(name: str, tensors: Tensors) -> Tensors:
    """``tensors`` with scaled float8 weights brought back to float32, each when its values are read (``stored.values``).

    Raises MotionModelFileError for weights quantised in another way.
    """
    for pattern, tool in TOOLS.items():
        if any(re.search(rf"({pattern})$", key) for key in tensors):
            raise MotionModelFileError(refusal_of_quantised(name, tool))
    scales = {SCALE.sub(".weight", key): value for key, value in tensors.items() if SCALE.search(key)}
    plain = {key: value for key, value in tensors.items() if not SCALE.search(key) and not UNUSED.search(key)}
    for key, scale in scales.items():
        weight = plain.get(key)
        rows = 1 if weight is None or weight.ndim == 0 else weight.shape[0]
        if (
            weight is None
            or weight.dtype not in FLOAT8
            or not scale.is_floating_point()
            or scale.numel() not in (1, rows)
        ):
            by_comfyui = any(key.endswith(".comfy_quant") for key in tensors)
            raise MotionModelFileError(
                refusal_of_quantised(name, "ComfyUI" if by_comfyui else "a tool that this version does not know")
            )
        plain[key] = _scaled(weight, scale)
    return plain


def _scaled(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    shape = (-1, *[1] * (weight.ndim - 1))
    return stored(weight, lambda: values(weight).float() * values(scale).float().reshape(shape))


def refusal_of_quantised(name: str, tool: str) -> str:
    """What to say of a file with quantised weights, which ``tool`` made."""
    return (
        f"'{name}' holds weights that were quantised by {tool}. Use the version of it in float16, bfloat16 or float32: a motion "
        "model takes no more than 2 GB."
    )
