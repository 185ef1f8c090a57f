"""What temporal attention says about the motion of a clip, and how far another clip is from it.

Ling et al., "MotionClone: Training-Free Motion Cloning for Controllable Video Generation" (arXiv 2406.05338), section 3:
of the probabilities with which a frame attends to the others, the largest tell the motion. Those of a reference clip are kept
(its motion representation); the energy of another clip is the squared difference of its own to them.

Both are read off a UNet call by the function that computes its temporal attention (``MotionInputs.attend``).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from ...host.attention import attention_for_training, probabilities
from ...motion_models.network.call import MotionCall

# Which temporal attention: the number of its motion model, and its name.
Attention = tuple[int, str]


class SeenEnough(BaseException):
    """Ends a UNet call whose result nobody needs: all of the attention that was to be read is there."""


@dataclass(frozen=True, eq=False)
class MotionMap:
    """The largest probabilities of each frame, and the frames they go to: ``(positions, heads, frames, k)`` each."""

    values: torch.Tensor
    indices: torch.Tensor

    @classmethod
    def of(cls, found: torch.Tensor, k: int) -> "MotionMap":
        """Of probabilities ``(positions, heads, frames, frames)``."""
        values, indices = found.topk(min(k, found.shape[-1]), dim=-1)
        return cls(values, indices)

    def energy(self, found: torch.Tensor, start: int) -> torch.Tensor:
        """Of the probabilities ``found (n, heads, frames, frames)`` at the positions from ``start`` on.

        Mean of the squared differences over heads, frames and k, summed over positions: so the gradient at one place does not
        depend on the size of the picture. The paper's is the mean over positions, too.
        """
        # positions are counted through all clips of a batch, and each clip has the same
        positions = torch.arange(start, start + len(found), device=found.device) % len(self.values)
        difference = found.gather(-1, self.indices[positions]) - self.values[positions]
        return difference.square().mean((1, 2, 3)).sum()


MotionMaps = dict[Attention, MotionMap]


def watched(call: MotionCall, attend: Callable) -> MotionCall:
    """``call`` in which ``attend(number of the motion model, name, q, k, v, heads)`` computes all temporal attention."""
    motion = tuple(replace(inputs, attend=partial(attend, number)) for number, inputs in enumerate(call.motion))
    return replace(call, motion=motion)


class Reading:
    """Keeps the motion maps of one UNet call of one clip, of the attentions whose names begin with ``block``."""

    def __init__(self, block: str, k: int):
        self.block, self.k = block, k
        self.parts: dict[Attention, list[MotionMap]] = {}
        self.function = attention_for_training()

    def attend(self, number: int, name: str, q, k, v, heads: int) -> torch.Tensor:
        if name.startswith(self.block):
            self.parts.setdefault((number, name), []).append(MotionMap.of(probabilities(q, k, heads), self.k))
        elif self.parts:
            raise SeenEnough
        return self.function(q, k, v, heads)

    @property
    def maps(self) -> MotionMaps:
        return {
            attention: MotionMap(
                *(torch.cat([getattr(part, name) for part in parts]) for name in ("values", "indices"))
            )
            for attention, parts in self.parts.items()
        }


class Comparison:
    """Adds up the energy of one UNet call of ``clips`` clips, each of which is compared with ``maps``."""

    def __init__(self, maps: MotionMaps, clips: int):
        self.maps = maps
        self.to_come = {attention: clips * len(one.values) for attention, one in maps.items()}  # positions
        self.parts: list[torch.Tensor] = []
        self.function = attention_for_training()

    def attend(self, number: int, name: str, q, k, v, heads: int) -> torch.Tensor:
        attention = number, name
        if attention in self.maps:
            to_come = self.to_come[attention]
            # The backward pass computes layers again, and has to find the same: so below 0 positions count on.
            self.to_come[attention] = to_come - len(q)
            energy = self.maps[attention].energy(probabilities(q, k, heads), -to_come)
            if to_come > 0:
                self.parts.append(energy)
                if not any(self.to_come.values()):
                    raise SeenEnough
        return self.function(q, k, v, heads)

    @property
    def energy(self) -> torch.Tensor:
        return torch.stack(self.parts).sum()
