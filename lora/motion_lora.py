"""MotionLoRAs: low-rank changes of a motion model's attention, one kind of motion each (arXiv 2307.04725, section 4.3)."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from uuid import UUID, uuid4

import torch

from ..motion_models.files.saving import METADATA_PREFIX, save_tensors
from ..motion_models.files.wrong_files import is_motion_lora, what_is_it
from ..motion_models.layouts import diffusers_name
from ..motion_models.network.low_rank import Pairs
from ..motion_models.network.strength import VaryingStrength
from .change import low_rank
from .error import LoraFileError
from .names import motion_layers
from .reading import changes, read_lora

# How the changes may be made that a MotionLoRA can carry: those that do not depend on the weight which they change.
METHODS = ("LoRA", "LoHa", "LoKr", "full differences")


@dataclass(frozen=True, eq=False)
class MotionLora:
    """The tensors of a MotionLoRA: ``pairs`` maps a layer's name (see motion_models/network/call.py) to ``(down, up)``.

    ``down (rank, in)``, ``up (out, rank)``; the change of the layer's weight is ``up @ down``, a scale such as
    alpha / rank being part of ``up``. ``metadata`` is that of the file. ``id`` is of these tensors alone.
    """

    name: str
    pairs: Pairs
    metadata: Mapping[str, str] = field(default_factory=dict)
    id: UUID = field(init=False, default_factory=uuid4)

    @property
    def rank(self) -> int:
        """The highest rank of any pair."""
        return max(down.shape[0] for down, _ in self.pairs.values())

    @property
    def has_mid(self) -> bool:
        """Whether it changes the mid block, which only v2 motion models have."""
        return any(layer.startswith("mid_block.") for layer in self.pairs)


@dataclass(frozen=True, eq=False)
class AppliedMotionLora:
    """One entry of MOTION_LORA."""

    lora: MotionLora
    strength: VaryingStrength = field(default_factory=VaryingStrength)


MotionLoras = tuple[AppliedMotionLora, ...]


def read_motion_lora(path: str) -> MotionLora:
    """Read the motion layers of a LoRA file (which files: docs/loras.md).

    Raises LoraFileError for anything else, and what read_lora and refuse_impossible_numbers raise.
    """
    file = read_lora(path)
    if not is_motion_lora(file.tensors):
        what = what_is_it(file.tensors)
        if what is None:
            what = (
                "It is a motion model: put it in models/animatediff_models and load it with AnimateDiff: Load Model. "
                "A MotionLoRA goes with it, not in its place."
            )
        raise LoraFileError(f"'{file.name}' is no MotionLoRA. {what}")
    layers, others = changes(file, file.motion, METHODS, "motion model")
    if others:
        raise LoraFileError(
            f"'{file.name}' is a MotionLoRA of a kind that this version does not know: {len(others)} of its tensors are no "
            f"part of {', '.join(METHODS)} ({next(iter(others))}, …). Without them it would make another motion: use a "
            "LoRA that holds nothing else."
        )
    pairs = {}
    for layer, parts in motion_layers(layers).items():
        try:
            pairs[layer] = low_rank(parts)
        except (KeyError, ValueError) as error:
            raise LoraFileError(
                f"'{file.name}' is damaged: what it has of {layer} ({', '.join(parts)}) makes no change of a motion layer. "
                "Download it again."
            ) from error
    lora = MotionLora(os.path.splitext(file.name)[0], MappingProxyType(pairs), MappingProxyType(file.metadata))
    mid = "with" if lora.has_mid else "without"
    logging.info(
        "[AnimateDiff] Loaded MotionLoRA %s: rank %d, %d layers, %s mid block", lora.name, lora.rank, len(pairs), mid
    )
    if file.spatial:
        logging.info(
            "[AnimateDiff] '%s' also has %d tensors of layers that are no motion module's, which are not used here. To use "
            "them, put the file into models/loras too and load it with Load Domain Adapter.",
            file.name,
            len(file.spatial),
        )
    return lora


# How a file calls its tensors: names of a layer's down and up.
ANIMATEDIFF, DIFFUSERS = "AnimateDiff", "diffusers"


def _names(layer: str, layout: str) -> tuple[str, ...]:
    if layout == DIFFUSERS:
        return tuple(f"unet.{diffusers_name(layer)}.lora_{half}.weight" for half in "AB")
    attention, projection = layer.removesuffix(".0").rsplit(".", 1)
    return tuple(f"{attention}.processor.{projection}_lora.{half}.weight" for half in ("down", "up"))


def save_motion_lora(
    lora: MotionLora,
    path: str,
    metadata: Mapping[str, object] | None = None,
    dtype: torch.dtype = torch.float16,
    layout: str = ANIMATEDIFF,
) -> None:
    """Write ``lora`` to a new file in the names of ``layout``: those of the published MotionLoRAs, or those that diffusers'
    ``load_lora_weights`` takes.

    ``metadata`` goes into the file beside that of ``lora``; its keys are ``animatediff.base``, ``animatediff.steps``
    and so on (motion_models/files/saving.py). Raises what save_tensors raises.
    """
    tensors = {}
    for layer, pair in lora.pairs.items():
        tensors |= {name: half.to(dtype) for name, half in zip(_names(layer, layout), pair, strict=True)}
    rank = {f"{METADATA_PREFIX}rank": lora.rank}
    save_tensors(tensors, path, {**lora.metadata, **rank, **(metadata or {})})
