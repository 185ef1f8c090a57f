"""A LoRA file: the changes of motion layers and of the others, each at the strength that its writer means."""

import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..motion_models.files.numbers import refuse_impossible_numbers
from ..motion_models.files.reading import read_tensors
from ..motion_models.files.stored import values
from ..motion_models.files.wrong_files import IN_WHOLE_MODEL, MOTION, method_of_change
from ..motion_models.layouts import Tensors
from .change import BESIDE_A_CHANGE, rank_of, scaled, shape_of
from .error import LoraFileError
from .names import Layers, Parts, in_layers
from .peft_config import IN_HEADER, OWN_NAMES, PeftConfig, config_of

# Names of the text encoder's layers in LoRA files: no node here is for them.
TEXT_ENCODER = re.compile(r"^(lora_te|text_encoder|lora_prior_te|clip_)")


@dataclass(frozen=True, eq=False)
class LoraFile:
    """``motion`` and ``spatial``: tensors of motion modules' layers and of the UNet's own, named as in the file.

    ``metadata`` is that of the file but what became ``config``: what is saved again is at its strength already.
    """

    name: str
    motion: Tensors
    spatial: Tensors
    metadata: Mapping[str, str]
    config: PeftConfig | None

    @property
    def tensors(self) -> Tensors:
        return self.motion | self.spatial


def read_lora(path: str) -> LoraFile:
    """Raises LoraFileError if its strength cannot be known, and what read_tensors raises for damaged files."""
    name = os.path.basename(path)
    tensors, metadata = read_tensors(path)
    config = config_of(path, metadata, tensors)
    if config is None and any(OWN_NAMES in key for key in tensors):
        logging.warning(
            "[AnimateDiff] '%s' was saved by peft, and its adapter_config.json is not beside it: alpha is taken to be the "
            "rank. If it was another, put that file (or the LoRA with it) into one folder.",
            name,
        )
    motion = {key: value for key, value in tensors.items() if MOTION.search(key)}
    spatial = {key: value for key, value in tensors.items() if key not in motion and not TEXT_ENCODER.match(key)}
    metadata = {key: value for key, value in metadata.items() if key != IN_HEADER}
    return LoraFile(name, motion, spatial, metadata, config)


def changes(file: LoraFile, tensors: Tensors, methods: tuple[str, ...], network: str) -> tuple[Layers, Tensors]:
    """The changes that ``tensors`` of the file make, at their strength; and tensors that are no part of one we know.

    ``methods``: those that the caller can apply, as method_of_change calls them. ``network``: whose layers they are, for
    messages. Raises LoraFileError for other methods and for parts that do not fit, and what refuse_impossible_numbers
    raises.
    """
    method = method_of_change(tensors)
    if method == IN_WHOLE_MODEL:
        raise LoraFileError(
            f"'{file.name}' holds a whole model with LoRA layers in it. Save the LoRA alone: in peft by save_pretrained, in "
            "diffusers by save_lora_weights."
        )
    if method is not None and method not in methods:
        raise LoraFileError(
            f"'{file.name}' changes layers of a {network} by {method}, which cannot be applied here. Merge it into its "
            f"{network} with the program that made it (in peft: merge_and_unload) and save that, or train a LoRA instead."
        )
    tensors = {key: values(value) for key, value in tensors.items()}
    refuse_impossible_numbers(file.name, tensors)
    layers, others = in_layers(file.name, tensors)
    return _at_strength(file, layers), others


def _at_strength(file: LoraFile, layers: Layers) -> Layers:
    result, in_file, in_config = {}, {}, {}
    for layer, parts in layers.items():
        if parts.keys() <= BESIDE_A_CHANGE:
            result[layer] = parts  # the change is of a method that only the host knows
            continue
        _check_parts(file, layer, parts)
        rank = rank_of(parts)
        if file.config is not None:
            in_config[layer] = _scale_in_config(file, layer, rank)
        if "alpha" in parts:
            in_file[layer] = 1.0 if rank is None else parts["alpha"].item() / rank
        scale = in_file.get(layer, in_config.get(layer, 1.0))
        result[layer] = scaled({name: part for name, part in parts.items() if name != "alpha"}, scale)
    _tell(file, in_file, in_config)
    return result


def _check_parts(file: LoraFile, layer: str, parts: Parts) -> None:
    try:
        shape_of(parts)
    except (KeyError, IndexError, ValueError) as error:
        shapes = ", ".join(f"{name} {tuple(part.shape)}" for name, part in parts.items())
        raise LoraFileError(
            f"'{file.name}' is damaged: of {layer} it has {shapes}, which do not make a change of a layer. Download it again."
        ) from error


def _scale_in_config(file: LoraFile, layer: str, rank: int | None) -> float:
    config = file.config
    assert config is not None
    stated = config.rank_of(layer)
    if rank is not None and stated not in (None, rank):
        raise LoraFileError(
            f"'{file.name}' cannot be used: {config.where} says that the rank of {layer} is {stated}, but it is {rank}. It "
            "belongs to another LoRA: put each into a folder of its own, with what was saved with it."
        )
    rank = rank or stated
    return 1.0 if rank is None else config.scale_of(layer, rank)


def _tell(file: LoraFile, in_file: dict[str, float], in_config: dict[str, float]) -> None:
    where = file.config.where if file.config else ""
    differ = [
        layer
        for layer in in_file
        if not math.isclose(in_file[layer], in_config.get(layer, in_file[layer]), rel_tol=1e-3)
    ]
    if differ:
        logging.warning(
            "[AnimateDiff] '%s' tells the strength of %d layers twice, and differently: alpha in the file makes it %g, %s %g "
            "(%s). Alpha in the file counts.",
            file.name,
            len(differ),
            in_file[differ[0]],
            where,
            in_config[differ[0]],
            differ[0],
        )
    used = {round(scale, 4) for layer, scale in in_config.items() if layer not in in_file}
    if used - {1.0}:
        logging.info(
            "[AnimateDiff] '%s': alpha / rank is %s, by %s",
            file.name,
            f"{min(used):g}" if len(used) == 1 else f"{min(used):g} to {max(used):g}",
            where,
        )
