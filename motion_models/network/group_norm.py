"""Group norm over all frames of a clip together, as v1 motion models were trained (see spec.joint_group_norm)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from .forwards import forwards_replaced
from .injection import slots


def _joint_forward(norm: nn.GroupNorm, frames: int):
    separate = norm.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        """``x (clips * frames, channels, height, width)``: the frames join the axes that statistics are taken over."""
        frames_joined = x.unflatten(0, (-1, frames)).transpose(1, 2)
        return separate(frames_joined).transpose(1, 2).flatten(0, 1)

    return forward


@contextmanager
def joint_group_norm(unet: nn.Module, frames: int) -> Iterator[None]:
    """Make every group norm of ``unet`` and of the motion modules in it joint, for a batch of clips of ``frames`` frames.

    Only these very layers are altered, by an attribute of their own, and only inside the ``with``: the host's and
    PyTorch's classes, and other models, see nothing.
    """
    roots = [unet, *(slot.motion[0] for slot in slots(unet))]
    norms = [module for root in roots for module in root.modules() if isinstance(module, nn.GroupNorm)]
    with forwards_replaced(norms, partial(_joint_forward, frames=frames)):
        yield
