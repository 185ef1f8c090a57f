"""What travels with the hidden states of one UNet call to the motion modules."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch

from ...host.told import Told
from .features import FrameFeatures
from .strength import FrameMask, Strength, times
from .views import Views

# Of the call in the host's transformer_options.
CALL_KEY = "animatediff"
# What other packs (ControlNet, IPAdapter) read there to learn which frames they are asked for.
FRAMES_KEY = "ad_params"
# Set there by what looks at several frames in the spatial layers.
ALL_FRAMES_KEY = "animatediff_all_frames"


@dataclass(frozen=True, eq=False)
class LowRank:
    """A low-rank change of one linear layer: ``strength * up @ down`` is added to its weight (Hu et al., "LoRA").

    ``down (rank, in)`` and ``up (out, rank)`` may be of any dtype and on any device, and may require gradients.
    ``strength`` is laid out, ``(positions, frames, 1)``, where the layer is computed (parts.py).
    """

    down: torch.Tensor
    up: torch.Tensor
    strength: Strength | torch.Tensor = 1.0


# How an adapter reaches into the network: by name. Here that of a linear layer, such as
# down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q (to_k, to_v; to_out.0),
# to the changes of that layer, which add up.
LowRanks = Mapping[str, tuple[LowRank, ...]]
NO_LOW_RANKS: LowRanks = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Merge:
    """Features merged into what a temporal attention sees: ``x + strength * layer(x + features)`` takes the place of ``x``.

    ``features`` and ``strength`` are laid out, ``(positions, frames, channels or 1)``, where it is computed (parts.py).
    """

    layer: Any
    features: Any  # FrameFeatures, or laid out
    strength: Any = 1.0  # Strength, or laid out


# The name of a temporal attention (….attention_blocks.0) to what is merged there.
Merges = Mapping[str, Merge]
NO_MERGES: Merges = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Projection:
    """``layer`` makes of hidden states and features, side by side in the channels, the hidden states that go on."""

    layer: Any
    features: Any  # FrameFeatures, or laid out


# The name of a temporal attention to what follows it.
Projections = Mapping[str, Projection]
NO_PROJECTIONS: Projections = MappingProxyType({})
# That of a motion module (down_blocks.0.motion_modules.1) to what is added to the picture ahead of it.
Ahead = Mapping[str, FrameFeatures]
NOTHING_AHEAD: Ahead = MappingProxyType({})


# In place of a temporal attention's own function: its name, queries, keys and values ``(positions, frames, channels)`` and
# the number of heads -> ``(positions, frames, channels)``. Positions come clip by clip, in parts (temporal.py).
Attend = Callable[[str, torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
# Around a temporal transformer: the conds of the UNet call, the name of its motion module, the picture
# ``(clips * frames, channels, height, width)`` and the function that computes it -> what it adds,
# ``(clips, frames, channels, height, width)``.
Transform = Callable[[Sequence[Hashable], str, torch.Tensor, Callable[[], torch.Tensor]], torch.Tensor]


@dataclass(frozen=True, eq=False)
class ModuleInputs:
    """How strongly one motion module acts.

    ``scale`` multiplies the attention keys, one entry per attention block (none: 1 for all). ``effect`` multiplies what
    the module adds to the picture; 0 bypasses it. None means 1: the arithmetic is skipped.
    """

    scale: tuple[Strength | None, ...] = ()
    effect: Strength | None = None

    def in_window(self, window: list[int] | None) -> ModuleInputs:
        """Their masks for the frames ``window`` of the clip."""
        *scale, effect = (
            value.in_window(window) if isinstance(value, FrameMask) else value for value in (*self.scale, self.effect)
        )
        return ModuleInputs(tuple(scale), effect)

    def scaled(self, factor: float, attention_blocks: int) -> ModuleInputs:
        """With ``factor`` times the keys in each of its ``attention_blocks``."""
        scales = self.scale or (None,) * attention_blocks
        return replace(self, scale=tuple(times(scale, factor) for scale in scales))


@dataclass(frozen=True, eq=False)
class MotionInputs:
    """What one UNet call tells one motion model.

    ``default`` is for all modules but those that ``modules`` names (``down_blocks.0.motion_modules.1``). ``low_rank``
    changes linear layers for this call; ``merges`` are features that meet the hidden states in attention, ``projections``
    those that meet them behind it. ``ties`` are features of each place and frame: the scalar product of those of two frames
    is added to the logits of temporal attention between them. ``ahead`` is added to the picture ahead of modules: the sum
    counts by the module's effect as what it makes of it does; a module of effect 0 hands on the whole sum. ``views`` divide
    the frames (None: all attend to all), ``position_terms`` are what a module makes of its position tables for them.
    ``attend`` computes all temporal attention of this call (None: as the modules do). ``transform`` is around each temporal
    transformer, unless ``attend`` looks into it; ``conds`` are the names of those in the UNet call, in equal parts of its
    batch, where something asks for them.

    Each cond has ``windows`` clips in the call, and masks and features have the pictures of them all, one clip behind the
    other (``parts.of_clips``).
    """

    default: ModuleInputs = field(default_factory=ModuleInputs)
    modules: Mapping[str, ModuleInputs] = field(default_factory=lambda: MappingProxyType({}))
    low_rank: LowRanks = field(default_factory=lambda: NO_LOW_RANKS)
    merges: Merges = field(default_factory=lambda: NO_MERGES)
    projections: Projections = field(default_factory=lambda: NO_PROJECTIONS)
    ahead: Ahead = field(default_factory=lambda: NOTHING_AHEAD)
    ties: Any = None  # FrameFeatures, or laid out
    views: Views | None = None
    position_terms: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType({})
    )  # PositionTerms (projected.py)
    attend: Attend | None = None
    transform: Transform | None = None
    conds: tuple[Hashable, ...] = ()
    windows: int = 1

    def module(self, name: str) -> ModuleInputs:
        return self.modules.get(name, self.default)

    @property
    def acts(self) -> bool:
        """Whether the motion model acts at all: single modules may be switched off."""
        return any(module.effect != 0.0 for module in (self.default, *self.modules.values()))

    def in_batch(self, conds: Sequence[Hashable], clips: int) -> MotionInputs:
        """For a UNet call of ``clips`` clips that belong to ``conds`` in equal parts: some features are for some conds only."""
        if not self.projections and self.transform is None:
            return self
        projections = {}
        for name, one in self.projections.items():
            features = one.features.in_batch(conds, clips)
            projections[name] = replace(one, features=features)
        return replace(self, projections=projections, conds=tuple(conds))

    def scaled(self, factor: float, attention_blocks: int) -> MotionInputs:
        """With ``factor`` times the keys in all modules of a motion model that has so many attention blocks in each."""
        modules = {name: module.scaled(factor, attention_blocks) for name, module in self.modules.items()}
        return replace(self, default=self.default.scaled(factor, attention_blocks), modules=modules)

    def tied(self, ties: FrameFeatures) -> MotionInputs:
        """With ``ties`` beside those that are there."""
        return replace(self, ties=ties if self.ties is None else self.ties.beside(ties))

    def in_window(self, window: list[int] | None) -> MotionInputs:
        """Their masks for the frames ``window`` of the clip."""
        modules = {name: module.in_window(window) for name, module in self.modules.items()}
        return replace(self, default=self.default.in_window(window), modules=modules)


# For a motion model that takes no part in a call.
BYPASS = MotionInputs(ModuleInputs(effect=0.0))


class MotionCallError(Told, ValueError):
    """A UNet call that motion modules cannot serve; the message says what to change."""


@dataclass(frozen=True, eq=False)
class MotionCall:
    """One UNet call: ``motion[i]`` is for the i-th motion model of the MODEL.

    ``frames`` of a clip stand one behind the other in the batch; it may hold several such clips: for each cond one of each
    context window, and where another pack cuts pictures into tiles, one for each tile. ``chunk``: how many frames spatial
    layers see at a time (0: as many as fit into memory; None: all). ``skips_in_ram``: where skip connections are kept.
    """

    motion: tuple[MotionInputs, ...]
    frames: int
    chunk: int | None = None
    skips_in_ram: bool = False

    @classmethod
    def of(cls, transformer_options: Mapping[str, object] | None) -> MotionCall:
        """The call that these options belong to. Raises MotionCallError where they are no options of ours."""
        call = (transformer_options or {}).get(CALL_KEY)
        if not isinstance(call, MotionCall):
            raise MotionCallError(
                "A UNet with motion models in it was called with the options of another MODEL, so its motion models do not know "
                "which frames these are. A guider with two MODELs (such as Dual Model CFG Guider) does so: connect the MODEL of "
                "Use Evolved Sampling to both of its inputs, or to its main input only."
            )
        return call

    def clips(self, batch: int) -> int:
        """How many clips a batch of ``batch`` rows holds. Raises MotionCallError if they are no whole clips."""
        clips, rest = divmod(batch, self.frames)
        if rest:
            raise MotionCallError(
                f"The UNet was called with {batch} pictures, which are no whole clips of {self.frames} frames. Another node on "
                "the MODEL takes the frames of the clip apart (tiling, batching or caching): remove that node, or set it so that "
                "all frames go through the UNet together."
            )
        return clips
