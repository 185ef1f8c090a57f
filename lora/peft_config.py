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

from ..motion_models.files.beside import NoJson, json_beside
from .error import LoraFileError

IN_HEADER = "lora_adapter_metadata"
BESIDE = "adapter_config.json"
OWN_NAMES = "base_model.model."
# peft's method -> what its configuration calls alpha
METHODS = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha"}
# Ways of beginning a LoRA that change the network's own weights: what is learned is relative to those.
ALTERS_NETWORK = re.compile(r"pissa|corda|olora|loftq|lora_ga", re.IGNORECASE)

AGAIN = "Save the LoRA again with the program that made it, or download it again."


@dataclass(frozen=True)
class PeftConfig:
    """Rank and alpha of each layer; ``where`` says where they were found.

    The patterns are for layers whose names end with what a regular expression matches. ``rank`` None: not said.
    """

    rank: int | None
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    where: str

    def rank_of(self, layer: str) -> int | None:
        return _matching(self.rank_pattern, layer, self.rank)

    def scale_of(self, layer: str, rank: int) -> float:
        """alpha / rank, or alpha / √rank in rank-stabilised LoRAs (Kalajdzievski, arXiv 2312.03732)."""
        return _matching(self.alpha_pattern, layer, self.alpha) / (math.sqrt(rank) if self.rslora else rank)


def _matching(pattern: Mapping, layer: str, default):
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", layer)), default)


def config_of(path: str, metadata: Mapping[str, str], keys: Iterable[str]) -> PeftConfig | None:
    """The configuration in the header of the file or beside it; None if there is none. ``keys`` as they are in the file.

    Raises LoraFileError if it cannot be read, says what cannot be right, or is of a kind that cannot be used.
    """
    folder, name = os.path.split(path)
    where = f"its header ({IN_HEADER})" if IN_HEADER in metadata else f"{BESIDE} beside it"
    beginning = f"'{name}' cannot be used: {where}"
    try:
        if IN_HEADER in metadata:
            content = _object(metadata[IN_HEADER])
        elif any(OWN_NAMES in key for key in keys) and _is_alone(folder, name):
            content = json_beside(path, BESIDE)
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
    rank_pattern, alpha_pattern = (content.get(name) or {} for name in ("rank_pattern", "alpha_pattern"))
    try:
        for pattern in (*rank_pattern, *alpha_pattern):
            re.compile(pattern)
        right = all(_is_number(value) and value >= 1 for value in (1 if rank is None else rank, *rank_pattern.values()))
        right = right and all(_is_number(value) for value in (alpha, *alpha_pattern.values()))
    except (TypeError, AttributeError, OverflowError, re.error):
        right = False
    if not right:
        raise LoraFileError(
            f"{beginning} tells a strength that cannot be right (r {rank}, alpha {alpha}, rank_pattern {rank_pattern}, "
            f"alpha_pattern {alpha_pattern}). {AGAIN}"
        )
    return PeftConfig(rank, alpha, rank_pattern, alpha_pattern, content.get("use_rslora") is True, where)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
