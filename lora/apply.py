"""Applying MotionLoRAs to a motion model: weight patches where the strength is constant, else changes for each call."""

import logging
import uuid

import comfy.lora

from ..motion_models.network.injection import MotionModelMismatch
from ..motion_models.network.low_rank import Pairs
from ..motion_models.network.strength import VaryingStrength
from ..motion_models.network.temporal import MotionModel
from .motion_lora import MotionLora, MotionLoras


def apply_motion_loras(patcher, loras: MotionLoras) -> tuple[object, tuple[tuple[Pairs, VaryingStrength], ...]]:
    """Return a motion model's patcher with ``loras`` of constant strength added, and those whose strength varies: their pairs of
    ``(down, up)``, and how strong they are.

    The patcher given stays as it is: the host keeps it for other runs. Raises MotionModelMismatch if a MotionLoRA is
    for another kind of motion model; layers that the motion model lacks are only counted in the log.
    """
    if not loras:
        return patcher, ()
    patcher = patcher.clone()
    varying, patched = [], patcher.patches_uuid
    for applied in loras:
        pairs = _fitting(applied.lora, patcher.model, applied.strength.varies)
        if applied.strength.varies:
            varying.append((pairs, applied.strength))
        else:
            # The host's own LoRA patches, by way of its reader: layer names are those of the motion model.
            tensors = {f"{layer}.lora_down.weight": down for layer, (down, _) in pairs.items()}
            tensors |= {f"{layer}.lora_up.weight": up for layer, (_, up) in pairs.items()}
            patches = comfy.lora.load_lora(tensors, {layer: f"{layer}.weight" for layer in pairs})
            patcher.add_patches(patches, applied.strength.number)
            patched = uuid.uuid5(patched, f"{applied.lora.id} {applied.strength.number!r}")
    # by this the host tells whether the weights have these patches already, and need not be patched again
    patcher.patches_uuid = patched
    return patcher, tuple(varying)


def _fitting(lora: MotionLora, model: MotionModel, varies: bool) -> Pairs:
    """The pairs of ``lora`` for layers that ``model`` has."""
    weights = {
        name.removesuffix(".weight"): tuple(value.shape)
        for name, value in model.state_dict().items()
        if name.endswith(".weight")
    }
    pairs = {layer: pair for layer, pair in lora.pairs.items() if layer in weights}
    fixed = pairs.keys() - dict(model.projections()) if varies else ()
    if fixed:
        raise MotionModelMismatch(
            f"The MotionLoRA '{lora.name}' cannot be scheduled: {len(fixed)} of its {len(pairs)} layers are not in the "
            f"attention ({min(fixed)}, …), and only there strengths can vary. Connect it without Schedule MotionLoRA."
        )
    if not pairs:
        raise MotionModelMismatch(
            f"Nothing of the MotionLoRA '{lora.name}' applies to the motion model: it has none of the layers "
            f"({next(iter(lora.pairs))}, …). The motion model is {model.spec}. Use a MotionLoRA made for it."
        )
    misshapen = [
        f"{layer} is {down.shape[1]} \u2192 {up.shape[0]}, not {weights[layer][1]} \u2192 {weights[layer][0]}"
        for layer, (down, up) in pairs.items()
        if (up.shape[0], down.shape[1]) != weights[layer]
    ]
    if misshapen:
        raise MotionModelMismatch(
            f"The MotionLoRA '{lora.name}' is for another kind of motion model: {len(misshapen)} of its "
            f"{len(lora.pairs)} layers have other shapes ({misshapen[0]}, …). The motion model is {model.spec}. "
            "Use a MotionLoRA made for it, or the motion model that the MotionLoRA was made for."
        )
    if len(pairs) < len(lora.pairs):
        hint = "; the MotionLoRA was made for v2 motion models" if lora.has_mid and not model.spec.mid else ""
        logging.warning(
            "[AnimateDiff] %d of %d layers of the MotionLoRA '%s' have no place in the motion model '%s' and were "
            "left out%s.",
            len(lora.pairs) - len(pairs),
            len(lora.pairs),
            lora.name,
            model.spec.name,
            hint,
        )
    return pairs
