"""Several MotionLoRAs, each at its strength, as one."""

import logging
from collections import defaultdict
from types import MappingProxyType

import torch

from ...host.progress import in_steps
from ...host.told import Told
from ..motion_lora import MotionLora, MotionLoras
from .low_rank import Held, Pair, of_product


class NotMerged(Told, ValueError):
    """MotionLoRAs that cannot be made one; the message says why and what to do."""


def merged(loras: MotionLoras, rank: int = 0) -> MotionLora:
    """One MotionLoRA of strength 1 that does what ``loras`` do together.

    Ranks add up, and the change stays exact; a ``rank`` above 0 is the most that a layer may have, and of more the
    nearest change of that rank is taken. Layers that only some have stay theirs. Raises NotMerged for strengths that vary,
    for layers of different shapes, and if nothing is left.
    """
    check_constant(loras)
    halves: dict[str, list[Pair]] = defaultdict(list)
    shapes: dict[str, tuple[str, tuple[int, int]]] = {}  # layer -> the first that has it, its shape there
    for applied in loras:
        if applied.strength.number == 0.0:
            continue
        for layer, (down, up) in applied.lora.pairs.items():
            shape = down.shape[1], up.shape[0]
            first, expected = shapes.setdefault(layer, (applied.lora.name, shape))
            if shape != expected:
                raise NotMerged(
                    f"The MotionLoRAs '{first}' and '{applied.lora.name}' are for different kinds of motion models: {layer} is "
                    f"{expected[0]} \u2192 {expected[1]} in the first, and {shape[0]} \u2192 {shape[1]} in the second. Merge those of "
                    "one kind."
                )
            halves[layer].append((down.float(), up.float() * applied.strength.number))
    if not halves:
        raise NotMerged("There is nothing to merge: no MotionLoRA has a strength other than 0. Connect one, or more.")
    pairs, held = {}, Held(0.0, 0.0)
    for layer in in_steps(list(halves)):
        down, up = torch.cat([down for down, _ in halves[layer]]), torch.cat([up for _, up in halves[layer]], dim=1)
        full = min(down.shape[1], up.shape[0])
        most = min(rank or full, full)
        if down.shape[0] > most:
            (down, up), of_layer = of_product(down, up, most)
            held += of_layer
        pairs[layer] = down, up
    if held.missing > 1e-6 * held.whole:
        logging.info(
            "[AnimateDiff] The merged MotionLoRA of rank %d lacks %.2f %% of the change (as squares) of the layers whose rank "
            "was higher.",
            rank,
            100 * held.missing / held.whole,
        )
    name = " + ".join(applied.lora.name for applied in loras)
    return MotionLora(name, MappingProxyType(pairs), MappingProxyType(_base(loras)))


def check_constant(loras: MotionLoras) -> None:
    """Raise NotMerged for a strength that varies."""
    varying = next((applied.lora.name for applied in loras if applied.strength.varies), None)
    if varying is not None:
        raise NotMerged(
            f"The strength of the MotionLoRA '{varying}' varies, which weights cannot. Merge without Schedule MotionLoRA; a "
            "merged MotionLoRA can be scheduled."
        )


def _base(loras: MotionLoras) -> dict[str, str]:
    """The motion model that they were made for, if all say the same."""
    key = "animatediff.base"
    bases = {applied.lora.metadata[key] for applied in loras if key in applied.lora.metadata}
    return {key: bases.pop()} if len(bases) == 1 else {}
