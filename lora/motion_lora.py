"""MotionLoRAs: low-rank changes of a motion model's attention, one kind of motion each (arXiv 2307.04725, section 4.3).

Published layouts (``P`` is to_q, to_k, to_v or to_out, ``A`` the number of the attention block):

* AnimateDiff: ``….temporal_transformer.transformer_blocks.0.attention_blocks.A.processor.P_lora.down.weight``
* diffusers: ``….transformer_blocks.0.attn1.`` and then one of ``processor.P_lora.down.weight``,
  ``P.lora.down.weight``, ``P.lora_linear_layer.down.weight``, ``P.lora_A.weight`` (peft), ``P.lora_down.weight``
  (with ``P.alpha``), where ``to_out`` may be ``to_out.0``; below ``unet.`` or not
"""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from ..motion_models.files.reading import read_tensors
from ..motion_models.files.saving import METADATA_PREFIX, save_tensors
from ..motion_models.files.wrong_files import MOTION, is_motion_lora, what_is_it
from ..motion_models.layouts import PREFIX, Tensors, our_names
from ..motion_models.network.strength import StrengthSchedule

PEFT_PREFIX = re.compile(r"^(?:unet\.)?base_model\.model\.")
# A layer's name and which half of the pair a tensor is, in all of the layouts above.
HALF = re.compile(
    r"^(?P<layer>.+?)(?:_lora|\.lora|\.lora_linear_layer)?[._](?P<half>down|up|A|B)(?:\.default)?\.weight$"
)
ALPHA = re.compile(r"^(?P<layer>.+?)(?:_lora|\.lora|\.lora_linear_layer)?\.alpha$")
DOWN = ("down", "A")


class MotionLoraFileError(ValueError):
    """A file that is no usable MotionLoRA; the message says what it is and what to do."""


@dataclass(frozen=True, eq=False)
class MotionLora:
    """The tensors of a MotionLoRA: ``pairs`` maps a layer's name (see motion_models/network/call.py) to ``(down, up)``.

    ``down (rank, in)``, ``up (out, rank)``; the change of the layer's weight is ``up @ down``, a scale such as
    alpha / rank being part of ``up``. ``metadata`` is that of the file.
    """

    name: str
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    metadata: Mapping[str, str] = field(default_factory=dict)

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
    """One entry of MOTION_LORA. The strength is the product of all three (see motion_models/network/strength.py)."""

    lora: MotionLora
    strength: float = 1.0
    schedule: StrengthSchedule | None = None
    mask: torch.Tensor | None = None

    @property
    def varies(self) -> bool:
        return self.schedule is not None or self.mask is not None


MotionLoras = tuple[AppliedMotionLora, ...]


def read_motion_lora(path: str) -> MotionLora:
    """Read a MotionLoRA file of any published layout.

    Raises MotionLoraFileError for anything else, and what read_tensors raises for damaged files.
    """
    file_name = os.path.basename(path)
    tensors, metadata = read_tensors(path)
    tensors = {PREFIX.sub("", PEFT_PREFIX.sub("", key)): value for key, value in tensors.items()}
    if not is_motion_lora(tensors):
        what = what_is_it(tensors)
        if what is None:
            what = (
                "It is a motion model: put it in models/animatediff_models and load it with Load AnimateDiff Model. "
                "A MotionLoRA goes with it, not in its place."
            )
        raise MotionLoraFileError(f"'{file_name}' is no MotionLoRA. {what}")
    pairs = _pairs(file_name, our_names(tensors))
    lora = MotionLora(os.path.splitext(file_name)[0], MappingProxyType(pairs), MappingProxyType(metadata))
    mid = "with" if lora.has_mid else "without"
    logging.info(
        "[AnimateDiff] Loaded MotionLoRA %s: rank %d, %d layers, %s mid block", lora.name, lora.rank, len(pairs), mid
    )
    return lora


def _pairs(file_name: str, tensors: Tensors) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    others = [key for key in tensors if not MOTION.search(key)]
    if others:
        logging.warning(
            "[AnimateDiff] '%s': %d tensors of layers that are no motion module's are left out (%s, …).",
            file_name,
            len(others),
            others[0],
        )
        tensors = {key: value for key, value in tensors.items() if MOTION.search(key)}
    halves: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    unknown = []
    for key, value in tensors.items():
        half, alpha = HALF.match(key), ALPHA.match(key)
        if half is not None:
            halves[_layer(half["layer"])]["down" if half["half"] in DOWN else "up"] = value
        elif alpha is not None:
            halves[_layer(alpha["layer"])]["alpha"] = value
        else:
            unknown.append(key)
    if unknown:
        # of other methods (DoRA, LoHa, LoKr): without them the rest would make another motion
        raise MotionLoraFileError(
            f"'{file_name}' is a MotionLoRA of a kind that this version does not know: {len(unknown)} tensors are "
            f"neither down nor up ({unknown[0]}, …). Use a MotionLoRA in AnimateDiff's or diffusers' layout."
        )
    pairs = {}
    for layer, found in halves.items():
        down, up = found.get("down"), found.get("up")
        if down is None or up is None or down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            shapes = ", ".join(f"{half} {tuple(found[half].shape)}" for half in ("down", "up") if half in found)
            raise MotionLoraFileError(
                f"'{file_name}' is damaged: {layer} has {shapes or 'no tensors'} instead of down (rank, in) and up "
                "(out, rank). Download it again."
            )
        if "alpha" in found:
            up = up.float() * (found["alpha"].item() / down.shape[0])
        pairs[layer] = (down, up)
    return pairs


def _layer(name: str) -> str:
    name = name.replace(".processor.", ".")
    return f"{name}.0" if name.endswith(".to_out") else name


def save_motion_lora(
    lora: MotionLora, path: str, metadata: Mapping[str, object] | None = None, dtype: torch.dtype = torch.float16
) -> None:
    """Write ``lora`` to a new file in AnimateDiff's layout, which other programs read.

    ``metadata`` goes into the file beside that of ``lora``; its keys are ``animatediff.base``, ``animatediff.steps``
    and so on (motion_models/files/saving.py). Raises what save_tensors raises.
    """
    tensors = {}
    for layer, (down, up) in lora.pairs.items():
        attention, projection = layer.removesuffix(".0").rsplit(".", 1)
        for half, value in (("down", down), ("up", up)):
            tensors[f"{attention}.processor.{projection}_lora.{half}.weight"] = value.to(dtype)
    rank = {f"{METADATA_PREFIX}rank": lora.rank}
    save_tensors(tensors, path, {**lora.metadata, **rank, **(metadata or {})})
