"""Which of the host's attention functions temporal attention uses."""

from collections.abc import Callable

import comfy.ldm.modules.attention as host_attention
import comfy.model_management
from comfy.cli_args import args


def temporal_attention() -> Callable:
    """Return the host's attention function for many short sequences.

    Sequences are as long as the clip has frames (8-64) and there are thousands of them. xformers, sage and flash are
    made for few long sequences and fail or lose precision here, so the user's choice of those is not inherited;
    the choice of split or sub-quadratic attention, made to save memory, is.

    The function is called as ``f(q, k, v, heads)`` with tensors of shape ``(sequences, frames, channels)``.
    """
    if comfy.model_management.pytorch_attention_enabled() or comfy.model_management.cpu_mode():
        return host_attention.attention_pytorch
    if args.use_split_cross_attention:
        return host_attention.attention_split
    return host_attention.attention_sub_quad
