"""A MotionLoRA that turns one motion model into another, as far as a LoRA can."""

import logging
import math
from collections import defaultdict
from types import MappingProxyType

import torch

from ...host.patcher import weights_as_sampled
from ...host.progress import in_steps
from ...motion_models.merging import check_alike
from ...motion_models.network.temporal import MotionModel
from ..motion_lora import MotionLora
from .low_rank import Held, Pair, of_change

ATTENTION, ALL_LINEAR = "attention", "all linear layers"
LAYERS = (ATTENTION, ALL_LINEAR)


def extract(start, goal, rank: int, layers: str = ALL_LINEAR, clamp_quantile: float = 1.0) -> tuple[MotionLora, str]:
    """A MotionLoRA that brings ``start`` to ``goal`` (MOTION_MODEL_ADE), and in words how much of the way.

    Each layer of LAYERS gets the nearest change of ``rank``; layers that do not differ get none. Raises
    MotionModelMismatch for two that do not fit each other, and ValueError if there is nothing that a LoRA could hold.
    """
    model: MotionModel = start.model
    check_alike(model.spec, goal.model.spec)
    chosen = _layers(model, layers)
    before, after = weights_as_sampled(start), weights_as_sampled(goal)
    pairs: dict[str, Pair] = {}
    held, outside = Held(0.0, 0.0), defaultdict[str, float](float)
    for name in in_steps(list(model.state_dict())):
        change = after(name).sub_(before(name))
        if not change.any():
            continue
        layer = name.removesuffix(".weight")
        if layer in chosen:
            pairs[layer], of_layer = of_change(change, rank, clamp_quantile)
            held += of_layer
        else:
            outside[_kind(name, change)] += float(change.double().square().sum())
    names = f"'{goal.model.spec.name}' and '{model.spec.name}'"
    if not pairs:
        only = f"differ in {', '.join(outside)} only" if outside else "are equal"
        raise ValueError(
            f"There is nothing to extract: the motion models {names} {only}, in the layers that were asked for "
            f"({layers}) nothing. Use two that differ in them, or other layers."
        )
    lora = MotionLora(
        f"{goal.model.spec.name} - {model.spec.name}",
        MappingProxyType(pairs),
        MappingProxyType({"animatediff.base": model.spec.name}),
    )
    report = _report(names, lora.rank, held, outside)
    logging.info("[AnimateDiff] %s", report)
    return lora, report


def _layers(model: MotionModel, layers: str) -> set[str]:
    if layers == ATTENTION:
        return {name for name, _ in model.projections()}
    return {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}


def _kind(name: str, change: torch.Tensor) -> str:
    if name.endswith(".pe"):
        return "position tables"
    if name.endswith(".bias"):
        return "biases"
    return "norms" if change.ndim == 1 else "other linear layers"


def _report(names: str, rank: int, held: Held, outside: dict[str, float]) -> str:
    whole = held.whole + sum(outside.values())

    def percent(part: float) -> str:
        share = 100 * part / whole
        return f"{share:.2f} %" if share >= 0.01 else f"{share:.1g} %"

    # the length of what is missing compared with that of the whole difference: what users see of it goes with this
    left = math.sqrt((held.missing + sum(outside.values())) / whole)
    told = [f"{percent(held.whole - held.missing)} of the difference of {names} (as squares) is in the MotionLoRA"]
    told.append(f"{percent(held.missing)} is more than rank {rank} can hold")
    told += [f"{percent(part)} is in {kind}, which it does not reach" for kind, part in outside.items()]
    return f"{', '.join(told)}. The two are still {100 * left:.2g} % of their distance apart with it."
