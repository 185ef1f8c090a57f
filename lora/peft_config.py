"""How strong peft means its adapters to be: that stands beside the tensors, not in them.

diffusers writes peft's configuration into the header of a safetensors file, peft itself into a file beside it
(diffusers 0.42.1, ``save_lora_adapter`` and ``save_lora_weights``; peft 0.21.2, ``save_pretrained``).
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..motion_models.files.beside import PEFT_CONFIG, NoJson, json_beside
from .error import LoraFileError

IN_HEADER = "lora_adapter_metadata"
OWN_NAMES = "base_model.model."
# peft's method -> what its configuration calls alpha
METHODS = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha"}
# Ways of beginning a LoRA that change the network's own weights: what is learned is relative to those.
ALTERS_NETWORK = re.compile(r"pissa|corda|olora|loftq|lora_ga", re.IGNORECASE)

# Regular expressions, and what is meant for the layers that they match.
Patterns = tuple[tuple[re.Pattern[str], Any], ...]
PATTERNS = ("rank_pattern", "alpha_pattern")
MAX_PATTERNS = 10_000  # one for each layer of the largest UNets are a few thousand
# What may take for ever to match: a repeated group with a repetition in it, or more repetitions than layer names need.
ENDLESS = re.compile(r"[*+}][^()]*\)[*+{]|(?:[*+{].*){5}")
AGAIN = "Save the LoRA again with the program that made it, or download it again."


@dataclass(frozen=True)
class PeftConfig:
    """Rank and alpha of each layer; ``where`` says where they were found.

    ``ranks`` and ``alphas`` are for layers whose names a pattern matches, the first that does. ``rank`` None: not said.
    """

    rank: int | None
    alpha: float
    ranks: Patterns
    alphas: Patterns
    rslora: bool
    where: str

    def rank_of(self, layer: str) -> int | None:
        return _of(layer, self.ranks, self.rank)

    def scale_of(self, layer: str, rank: int) -> float:
        """alpha / rank, or alpha / sqrt(rank) in rank-stabilised LoRAs (Kalajdzievski, arXiv 2312.03732)."""
        return _of(layer, self.alphas, self.alpha) / (math.sqrt(rank) if self.rslora else rank)


def _of(layer: str, patterns: Patterns, default):
    return next((value for pattern, value in patterns if pattern.match(layer)), default)


def _patterns(content: dict, name: str, least: float) -> Patterns:
    """Raises ValueError, or what others raise, if they cannot be right."""
    entries = content.get(name) or {}
    if len(entries) > MAX_PATTERNS or any(ENDLESS.search(key) for key in entries):
        raise ValueError(name)
    if not all(_is_number(value) and value >= least for value in entries.values()):
        raise ValueError(name)
    # peft asks whether the end of a layer's name matches
    return tuple((re.compile(rf"(.*\.)?({key})$"), value) for key, value in entries.items())


def config_of(path: str, metadata: Mapping[str, str], keys: Iterable[str]) -> PeftConfig | None:
    """The configuration in the header of the file or beside it; None if there is none. ``keys`` as they are in the file.

    Raises LoraFileError if it cannot be read, says what cannot be right, or is of a kind that cannot be used.
    """
    folder, name = os.path.split(path)
    where = f"its header ({IN_HEADER})" if IN_HEADER in metadata else f"{PEFT_CONFIG} beside it"
    beginning = f"'{name}' cannot be used: {where}"
    try:
        if IN_HEADER in metadata:
            content = _object(metadata[IN_HEADER])
        elif any(OWN_NAMES in key for key in keys) and _is_alone(folder, name):
            content = json_beside(path, PEFT_CONFIG)
        else:
            return None
    except NoJson as broken:
        raise LoraFileError(f"{beginning}, which tells its strength, {broken}. {AGAIN}") from broken
    return None if content is None else _interpreted(content, where, beginning)


def _object(text: str) -> dict:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoJson("is damaged or no JSON") from error
    if not isinstance(content, dict):
        raise NoJson("holds no object")
    return content


def _is_alone(folder: str, name: str) -> bool:
    """Whether what lies beside the file is its own: other LoRAs may be in the same folder."""
    return name.startswith("adapter_model.") or not any(
        other.startswith("adapter_model.") for other in os.listdir(folder or os.curdir)
    )


def _interpreted(content: dict, where: str, beginning: str) -> PeftConfig | None:
    """``beginning`` is that of the sentence that a LoraFileError says."""
    # one header may tell of several networks: unet.r, text_encoder.r
    content = {key.removeprefix("unet."): value for key, value in content.items()}
    method = str(content.get("peft_type", "LORA")).rpartition(".")[2].upper()
    if method not in METHODS:
        raise LoraFileError(
            f"{beginning} says that it was made by peft's method {method}; of peft's methods only {', '.join(METHODS)} can be "
            "used. Merge it into its network in peft (merge_and_unload) and save that, or train a LoRA."
        )
    begun = str(content.get("init_lora_weights"))
    if ALTERS_NETWORK.match(begun):
        raise LoraFileError(
            f"{beginning} says that the LoRA was begun as {begun}, which changes the network's own weights too, and these are "
            "not in the file. Save it from peft with path_initial_model_for_weight_conversion: that makes it an ordinary LoRA."
        )
    if METHODS[method] not in content:
        return None
    rank, alpha = content.get("r"), content[METHODS[method]]
    try:
        ranks, alphas = _patterns(content, "rank_pattern", 1), _patterns(content, "alpha_pattern", -math.inf)
        if not _is_number(alpha) or not (rank is None or (_is_number(rank) and rank >= 1)):
            raise ValueError("r or alpha")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, re.error) as error:
        told = ", ".join(f"{name} {str(content.get(name))[:100]}" for name in ("r", METHODS[method], *PATTERNS))
        raise LoraFileError(f"{beginning} tells a strength that cannot be right ({told}). {AGAIN}") from error
    return PeftConfig(rank, alpha, ranks, alphas, content.get("use_rslora") is True, where)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
