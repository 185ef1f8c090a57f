"""How temporal attention is computed: by which of the host's functions, and where by its formula."""

from collections.abc import Callable

import comfy.cli_args
import comfy.ldm.modules.attention as host_attention
import comfy.model_management
import torch


def temporal_attention() -> Callable:
    """Return the host's attention function for many short sequences.

    Sequences are as long as the clip has frames (8-64) and there are thousands of them. xformers, sage and flash are
    made for few long sequences and fail or lose precision here, so the user's choice of those is not inherited;
    the choice of split or sub-quadratic attention, made to save memory, is.

    The function is called as ``f(q, k, v, heads)`` with tensors of shape ``(sequences, frames, channels)``.
    """
    if comfy.model_management.cpu_mode():
        return _attention_on_cpu
    if comfy.model_management.pytorch_attention_enabled():
        return host_attention.attention_pytorch
    if comfy.cli_args.args.use_split_cross_attention:
        return host_attention.attention_split
    return host_attention.attention_sub_quad


def attention_for_training() -> Callable:
    """Return a function as ``temporal_attention`` does, but one that has a backward pass everywhere."""
    return _attention_by_formula if comfy.model_management.cpu_mode() else host_attention.attention_pytorch


def probabilities(q: torch.Tensor, k: torch.Tensor, heads: int) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) ``(sequences, heads, frames, frames)``, at least in float32, of ``(sequences, frames, channels)`` each."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    q, k = (x.to(dtype).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k))
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)


def _attention_by_formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """``probabilities(q, k) v``, computed as they are.

    Forward and backward together that is faster than PyTorch's kernel for the CPU, as long as scores are no larger than queries: for
    short sequences, which temporal attention has. Longer ones are left to the kernel.
    """
    if k.shape[1] > q.shape[-1] // heads:
        return _attention_on_cpu(q, k, v, heads)
    shares = probabilities(q, k, heads)
    values = v.to(shares.dtype).unflatten(-1, (heads, -1)).transpose(1, 2)
    return (shares @ values).transpose(1, 2).flatten(2).to(q.dtype)


def _attention_on_cpu(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """At least in float32: PyTorch's bf16 kernel takes many times longer in the backward pass of short sequences."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    return host_attention.attention_pytorch(q.to(dtype), k.to(dtype), v.to(dtype), heads).to(q.dtype)


CHANNELS = 8  # attention kernels take heads of multiples of it


def with_terms(
    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor],
    qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    heads: int,
    of_queries: torch.Tensor,
    of_keys: torch.Tensor,
) -> torch.Tensor:
    """``softmax(q k^T / sqrt(d) + a b^T) v`` by an attention function that divides by the root of the width of its heads.

    ``q``, ``k``, ``v (sequences, tokens, heads * d)``; ``a = of_queries`` and ``b = of_keys (sequences, tokens, terms)`` are for
    all heads. They become further channels, so no matrix of queries by keys is made, and any kernel will do.
    """
    q, k, v = qkv
    d = q.shape[-1] // heads
    width = d + -(-of_queries.shape[-1] // CHANNELS) * CHANNELS
    wide = (
        _widened(q * (width / d) ** 0.5, of_queries * width**0.5, heads, width),
        _widened(k, of_keys, heads, width),
        _widened(v, None, heads, width),
    )
    return attend(*wide, heads).unflatten(-1, (heads, width))[..., :d].flatten(-2)


def _widened(x: torch.Tensor, more: torch.Tensor | None, heads: int, width: int) -> torch.Tensor:
    """``x`` with the channels ``more`` behind those of each head, and zeros up to ``width`` of them."""
    of_heads = x.unflatten(-1, (heads, -1))
    wide = x.new_zeros((*of_heads.shape[:-1], width))
    d = of_heads.shape[-1]
    wide[..., :d] = of_heads
    if more is not None:
        wide[..., d : d + more.shape[-1]] = more.to(x)[..., None, :]
    return wide.flatten(-2)
