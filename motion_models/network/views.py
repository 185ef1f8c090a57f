"""How temporal attention divides the frames of a call: windows inside the motion model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch

Place = slice | list[int] | torch.Tensor  # of frames among those of the call


def place_of(frames: list[int]) -> slice | list[int]:
    """``frames`` as an index: frames in a row are not copied."""
    first = frames[0]
    in_a_row = frames == list(range(first, first + len(frames)))
    return slice(first, first + len(frames)) if in_a_row else frames


@dataclass(frozen=True, eq=False)
class View:
    """Frames of a call that attend to each other only, and how much each counts where views overlap."""

    frames: list[int]
    weights: torch.Tensor

    @cached_property
    def place(self) -> slice | list[int]:
        return place_of(self.frames)


@dataclass(frozen=True, eq=False)
class EqualViews:
    """Views of one length, which attend side by side: ``frames (views, length)``.

    To each frame at ``place`` the results at ``sources[i]`` of ``views * length`` add up by ``weights[i]``, both
    ``(overlapping views, frames)``. A sum in this order is the same each time, also on a GPU.
    """

    frames: torch.Tensor
    place: slice | list[int]
    sources: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def of(cls, weighted: Sequence[tuple[View, torch.Tensor]], like: torch.Tensor) -> EqualViews:
        """Views, each with what its frames count; for hidden states of the dtype and on the device of ``like``."""
        found: dict[int, list[tuple[int, float]]] = {}
        flat = (pair for view, weights in weighted for pair in zip(view.frames, weights.tolist(), strict=True))
        for source, (frame, weight) in enumerate(flat):
            found.setdefault(frame, []).append((source, weight))
        touched = sorted(found)
        most = max(map(len, found.values()))
        padded = [[*found[frame], *[(found[frame][0][0], 0.0)] * (most - len(found[frame]))] for frame in touched]
        sources = torch.tensor([[source for source, _ in of_frame] for of_frame in padded]).T
        shares = torch.tensor([[weight for _, weight in of_frame] for of_frame in padded], dtype=torch.float64).T
        frames = torch.tensor([view.frames for view, _ in weighted])
        return cls(frames.to(like.device), place_of(touched), sources.to(like.device), shares.to(like))


@dataclass(frozen=True, eq=False)
class OneMotion:
    """A branch of attention in which all frames of a call attend to all, for what varies slowly along the clip.

    Lu et al., "FreeLong" (arXiv 2407.19918), section 4.2: low frequencies of the global branch, high ones of the windows.
    ``basis (frames, components)`` has orthonormal columns that span the low frequencies. ``order`` lists all frames as they
    follow each other in this branch, whose positions are spread over those of ``length`` frames.
    """

    basis: torch.Tensor
    order: list[int]
    length: int
    strength: float = 1.0

    @cached_property
    def place(self) -> slice | list[int]:
        return place_of(self.order)

    def basis_like(self, x: torch.Tensor) -> torch.Tensor:
        """``basis`` in the dtype and on the device of ``x``."""
        if (x.dtype, x.device) not in self._bases:
            self._bases[x.dtype, x.device] = self.basis.to(x)
        return self._bases[x.dtype, x.device]

    @cached_property
    def _bases(self) -> dict[tuple[torch.dtype, torch.device], torch.Tensor]:
        return {}


@dataclass(frozen=True, eq=False)
class Views:
    """How temporal attention divides the frames of a call; together the views hold every frame.

    They are blended behind all attentions of a module, each of which sees what the one before made of its view; or, where
    they are ``shared``, behind each attention, so that all but the attention itself is computed once for each frame.
    """

    each: tuple[View, ...]
    shared: bool = False
    one_motion: OneMotion | None = None

    @property
    def longest(self) -> int:
        return max(len(view.frames) for view in self.each)

    @cached_property
    def weights(self) -> list[torch.Tensor]:
        """Of each view, so that those of a frame add up to 1."""
        total = torch.zeros(1 + max(max(view.frames) for view in self.each), dtype=torch.float64)
        for view in self.each:
            total.index_add_(0, torch.tensor(view.frames), view.weights.double())
        return [view.weights.double() / total[view.frames] for view in self.each]

    def side_by_side(self, most: int, like: torch.Tensor) -> list[EqualViews]:
        """All views, up to ``most`` of equal length together; for hidden states of the dtype and on the device of ``like``."""
        if (key := (most, like.dtype, like.device)) not in self._side_by_side:
            pairs = list(zip(self.each, self.weights, strict=True))
            groups = [list(group) for _, group in groupby(pairs, lambda pair: len(pair[0].frames))]
            parts = [group[i : i + most] for group in groups for i in range(0, len(group), most)]
            self._side_by_side[key] = [EqualViews.of(part, like) for part in parts]
        return self._side_by_side[key]

    @cached_property
    def _side_by_side(self) -> dict[tuple[int, torch.dtype, torch.device], list[EqualViews]]:
        return {}
