"""What travels with the hidden states of one UNet call to the motion modules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

# The one key of ours in the host's transformer_options.
OPTIONS_KEY = "animatediff"


@dataclass(frozen=True, eq=False)
class LowRank:
    """A low-rank change of one linear layer: ``strength * up @ down`` is added to its weight (Hu et al., "LoRA").

    ``down (rank, in)`` and ``up (out, rank)`` may be of any dtype and on any device, and may require gradients.
    ``strength`` is a number; or a tensor ``(frames,)``, one strength for each frame of the call; or a tensor
    ``(frames, 1, height, width)`` of any size: a mask over the picture, resized to where it is needed.
    """

    down: torch.Tensor
    up: torch.Tensor
    strength: float | torch.Tensor = 1.0


# Layer name, such as down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q
# (to_k, to_v; to_out.0), to the changes of that layer. They add up.
LowRanks = Mapping[str, tuple[LowRank, ...]]
NO_LOW_RANKS: LowRanks = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class View:
    """Frames of a call that attend to each other only, and how much each counts where views overlap."""

    frames: list[int]
    weights: torch.Tensor


@dataclass(frozen=True)
class MotionInputs:
    """What one UNet call tells one motion model.

    ``scale`` multiplies the attention keys, ``effect`` what the module adds to the picture. None means 1: the
    arithmetic is skipped. An ``effect`` of 0 bypasses the module. ``low_rank`` changes linear layers for this call.
    ``views`` divide the frames (none: all attend to all); together they hold every frame.
    """

    scale: float | None = None
    effect: float | None = None
    low_rank: LowRanks = field(default_factory=lambda: NO_LOW_RANKS)
    views: tuple[View, ...] = ()


@dataclass(frozen=True)
class MotionCall:
    """One UNet call: ``motion[i]`` is for the i-th motion model of the MODEL."""

    motion: tuple[MotionInputs, ...]
