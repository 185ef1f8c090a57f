"""What the parts of a LoRA do to the weight of a layer.

LoRA (Hu et al., arXiv 2106.09685), LoHa (Hyeon-Woo et al., arXiv 2108.06098), LoKr and full differences (Yeh et al.,
"LyCORIS", arXiv 2309.14859). ``parts`` are those of one layer, named as in names.py.
"""

import math

import torch

from .names import Parts

# The parts that have the rank as a dimension, and which.
RANK = (("lora_down.weight", 0), ("hada_w1_b", 0), ("lokr_w2_b", 0), ("lokr_w1_b", 0))
# Every change has one of these as a factor.
FACTORS = ("lora_up.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a", "diff")

# Parts that make no change by themselves.
BESIDE_A_CHANGE = {"alpha", "dora_scale", "magnitude", "diff_b"}


def rank_of(parts: Parts) -> int | None:
    """None if the change is whole: nothing of it has a low rank."""
    return next((parts[name].shape[axis] for name, axis in RANK if name in parts), None)


def scaled(parts: Parts, scale: float) -> Parts:
    """The parts of a change ``scale`` times as large: in float32, unless it is the same."""
    if scale == 1.0:
        return parts
    factor = next(name for name in FACTORS if name in parts)
    larger = {name: parts[name].float() * scale for name in (factor, "diff_b") if name in parts}
    return {**parts, **larger}


def shape_of(parts: Parts) -> tuple[int, int]:
    """``(out, in)`` of the weight that is changed, of convolutions ``(out, in × kernel)``.

    Raises KeyError, IndexError or ValueError if parts are missing or do not fit each other.
    """
    if "lora_up.weight" in parts or "lora_down.weight" in parts:
        down, up = parts["lora_down.weight"], parts["lora_up.weight"]
        _must(down.shape[0] == up.shape[1])
        shape = up.shape[0], down[0].numel() * _kernel(parts, "lora_mid.weight")
    elif "diff" in parts:
        shape = parts["diff"].shape[0], parts["diff"][0].numel()
    elif "hada_w1_a" in parts:
        shape = _product(parts, "hada_w1", "hada_t1")
        _must(shape == _product(parts, "hada_w2", "hada_t2"))
    else:
        left, right = _product(parts, "lokr_w1"), _product(parts, "lokr_w2", "lokr_t2")
        shape = left[0] * right[0], left[1] * right[1]
    _must(all(name not in parts or parts[name].numel() == shape[0] for name in ("diff_b", "magnitude")))
    _must("alpha" not in parts or parts["alpha"].numel() == 1)
    _must(
        "dora_scale" not in parts or shape[0 if len(parts["dora_scale"]) > 1 else 1] % parts["dora_scale"].numel() == 0
    )
    return shape


def _product(parts: Parts, name: str, kernel: str = "") -> tuple[int, int]:
    """The shape of a factor that is whole, or a product itself; with a kernel (Tucker) its first factor is transposed."""
    if name in parts:
        return parts[name].shape[0], parts[name][0].numel()
    a, b = parts[f"{name}_a"], parts[f"{name}_b"]
    out, rank = a.shape[::-1] if kernel in parts else a.shape
    _must(rank == b.shape[0])
    return out, b.shape[1] * _kernel(parts, kernel)


def _kernel(parts: Parts, name: str) -> int:
    return math.prod(parts[name].shape[2:]) if name in parts else 1


def _must(fits: bool) -> None:
    if not fits:
        raise ValueError("The parts do not fit each other.")


def low_rank(parts: Parts) -> tuple[torch.Tensor, torch.Tensor]:
    """``(down (rank, in), up (out, rank))`` whose product ``up @ down`` is the change of a linear layer's weight, exactly.

    Where the rank would be higher than the layer is wide, ``down`` is the identity. Raises what shape_of raises, and
    ValueError for parts that only convolutions have.
    """
    shape_of(parts)
    _must(not parts.keys() & {"lora_mid.weight", "hada_t1", "lokr_t2"})
    if "lora_up.weight" in parts:
        down, up = parts["lora_down.weight"], parts["lora_up.weight"]
        _must(down.ndim == up.ndim == 2)
        return down, up
    if "diff" in parts:
        down, up = _whole(parts["diff"])
    elif "hada_w1_a" in parts:
        a, b, c, d = (parts[f"hada_{name}"].float() for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
        # (a b) * (c d), element by element: the rows of a and c, and the columns of b and d, multiplied each with each
        up, down = torch.einsum("or,os->ors", a, c).flatten(1), torch.einsum("ri,si->rsi", b, d).flatten(0, 1)
    else:
        # kron(a b, c d) = kron(a, c) kron(b, d)
        (a, b), (c, d) = _factors(parts, "lokr_w1"), _factors(parts, "lokr_w2")
        up, down = torch.kron(a, c), torch.kron(b, d)
    return (down, up) if len(down) <= down.shape[1] else _whole(up @ down)


def _factors(parts: Parts, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    if name in parts:
        down, up = _whole(parts[name].float())
        return up, down
    return parts[f"{name}_a"].float(), parts[f"{name}_b"].float()


def _whole(change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    _must(change.ndim == 2)
    return torch.eye(change.shape[1], dtype=change.dtype), change
