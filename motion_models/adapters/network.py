"""What the networks of adapters have in common: how they get their weights, and a block that two of them are made of."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from ...host.patcher import operations, shapes, weight_dtype, weights_stay_mapped
from ..files.errors import MotionModelFileError
from ..files.weights import as_weights, network_of
from ..layouts import Tensors

Build = Callable[[torch.dtype | None], nn.Module]
MOST_NAMES = 8  # in a message


def with_weights(file_name: str, what: str, build: Build, tensors: Tensors, disable_dynamic: bool = False) -> nn.Module:
    """The network that ``build`` makes, for a dtype, with ``tensors`` as its weights; they are emptied.

    ``what`` says in the message what the file should hold, such as "an image encoder". Raises MotionModelFileError unless
    ``tensors`` are exactly the network's, and finite.
    """
    with torch.device("meta"):
        wanted = shapes(build(None))
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    problems = [
        _listed("are missing", [name for name in wanted if name not in found]),
        _listed("are unknown", [name for name in found if name not in wanted]),
        _listed(
            "are of the wrong shape",
            [
                f"{name} is {shape}, not {wanted[name]}"
                for name, shape in found.items()
                if shape != wanted.get(name, shape)
            ],
        ),
    ]
    if any(problems):
        raise MotionModelFileError(
            f"'{file_name}' looks like {what}, but {' and '.join(filter(None, problems))}. The file is damaged or of a kind "
            "that this version does not know: download it again, or report the file with this message."
        )
    weights = as_weights(file_name, tensors, mapped=weights_stay_mapped(disable_dynamic))
    return network_of(lambda: build(weight_dtype()), weights)


def _listed(what: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"tensors {what} ({', '.join(names[:MOST_NAMES])}{more})" if names else ""


def compute_dtype(network: nn.Module, like: torch.dtype) -> torch.dtype:
    """That of the network's weights; ``like`` where nothing can be computed in theirs (float8)."""
    dtype = next(network.parameters()).dtype
    return dtype if dtype.itemsize > 1 else like


class ResidualBlock(nn.Module):
    """``(pictures, channels, height, width)`` -> the same with ``to`` channels, and at half the size if it ``shrinks``.

    The residual block of T2I-Adapter (Mou et al., arXiv 2302.08453, section 3.3). Odd sides are padded before they are
    halved, so that they are rounded up as in the UNet.
    """

    def __init__(self, channels: int, to: int, shrinks: bool, dtype: torch.dtype | None = None):
        super().__init__()
        self.shrinks = shrinks
        self.in_conv = operations().Conv2d(channels, to, 1, dtype=dtype) if channels != to else None
        self.block1 = operations().Conv2d(to, to, 3, padding=1, dtype=dtype)
        self.block2 = operations().Conv2d(to, to, 1, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.shrinks:
            height, width = x.shape[-2:]
            x = functional.avg_pool2d(functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        if self.in_conv is not None:
            x = self.in_conv(x)
        return x + self.block2(functional.relu(self.block1(x)))
