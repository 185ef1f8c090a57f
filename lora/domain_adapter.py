"""Domain adapters: LoRAs on the UNet's spatial attention that absorb the look of the training videos.

Guo et al., "AnimateDiff" (arXiv 2307.04725), section 4.1. The published one (v3_sd15_adapter) has the tensor names
``down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight``.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

import comfy.lora
import comfy.lora_convert
import torch

from ..motion_models.files.saving import METADATA_PREFIX, save_tensors
from ..motion_models.files.wrong_files import LORA_BIAS, what_is_it
from ..motion_models.layouts import Tensors
from .change import BESIDE_A_CHANGE, shape_of
from .dora import DoraOfOutputs
from .error import LoraFileError
from .kohya import named_as_kohya
from .names import Layers
from .reading import changes, read_lora

# Where a MODEL has the domain adapters that are in it.
ATTACHMENT = "animatediff_domain_adapters"
# What is applied rightly at any scale. The host applies OFT and BOFT too, but rightly at scale 1 only.
METHODS = (
    *("LoRA", "LoHa", "LoKr", "GLoRA", "DoRA", LORA_BIAS),
    *("full differences", "full differences with biases", "differences of norms"),
)
# The attention layers of diffusers' UNets, however the writer named them: the host knows them as attnN.processor.to_P.
DIFFUSERS_ATTENTION = re.compile(
    r"^((?:down|mid|up)_block.+\.attn[12])(?:\.processor)?\.(to_(?:q|k|v|out))(?:\.0)?(?=[.]|$)"
)
# Parts that the host's loader knows and names.py does not.
HOSTS_PARTS = re.compile(r"^(?P<layer>.+)\.(?:[ab][12]\.weight|[wb]_norm|set_weight|reshape_weight)$")


@dataclass(frozen=True, eq=False)
class DomainAdapter:
    """A file of one: its changes by layer and part, and tensors that are no part of a change that names.py knows.

    ``motion``, ``spatial``: how many tensors it has of motion layers and of the others.
    """

    name: str
    layers: Layers
    others: Tensors
    motion: int
    spatial: int
    what: str  # is known of the file, and what to do with it, for messages


def read_domain_adapter(path: str) -> DomainAdapter:
    """Raises LoraFileError for a file of motion layers alone, and what read_lora and refuse_impossible_numbers raise."""
    file = read_lora(path)
    what = what_is_it(file.tensors) or (
        "It is a motion model: put it in models/animatediff_models and load it with AnimateDiff: Load Model."
    )
    if file.motion and not file.spatial:
        raise LoraFileError(f"'{file.name}' is no domain adapter. {what}")
    layers, others = changes(file, comfy.lora_convert.convert_lora(file.spatial), METHODS, "checkpoint")
    layers = {_hosts_name(layer): parts for layer, parts in layers.items()}
    others = {_hosts_name(key): value for key, value in others.items()}
    return DomainAdapter(file.name, layers, others, len(file.motion), len(file.spatial), what)


def load_domain_adapter(model, path: str, scale: float):
    """``with_domain_adapter`` of a file."""
    return with_domain_adapter(model, read_domain_adapter(path), scale)


def with_domain_adapter(model, adapter: DomainAdapter, scale: float):
    """A clone of ``model`` (a host ModelPatcher) with the UNet's layers of ``adapter`` added at ``scale``.

    Raises LoraFileError if nothing of the file applies, if of a layer not all can be applied, or if shapes differ.
    """
    name, layers, others = adapter.name, adapter.layers, adapter.others
    weight_names = comfy.lora.model_lora_keys_unet(model.model, {})
    applicable = {layer: parts for layer, parts in layers.items() if layer in weight_names}
    _check_shapes(name, applicable, weight_names, model)
    patches = _patches(applicable, others, weight_names)
    if not patches:
        raise LoraFileError(
            f"Nothing of '{name}' applies to this checkpoint ({type(model.model).__name__}). {adapter.what} "
            "If it is a domain adapter, use the checkpoint family it was trained for."
        )
    left_out = [key for key in others if not _is_known(name, key, weight_names)]
    left_out += [f"{layer}.{part}" for layer in layers.keys() - applicable.keys() for part in layers[layer]]
    model = model.clone()
    applied = set(model.add_patches(patches, scale))
    if len(applied) < len(patches):
        raise LoraFileError(
            f"'{name}' changes {len(patches) - len(applied)} weights that this checkpoint does not have "
            f"({next(key for key in patches if key not in applied)}, …). Use the checkpoint family it was trained for."
        )
    # for as long as the MODEL is there, it need not be read again (host/remembered.py)
    model.set_attachments(ATTACHMENT, (*(model.get_attachment(ATTACHMENT) or ()), adapter))
    logging.info("[AnimateDiff] Domain adapter %s changes %d weights at scale %g", name, len(applied), scale)
    if left_out:
        logging.warning(
            "[AnimateDiff] %d of %d tensors of the domain adapter '%s' have no place in the checkpoint and were left "
            "out (%s, …).",
            len(left_out),
            adapter.spatial,
            name,
            min(left_out),
        )
    if adapter.motion:
        logging.info(
            "[AnimateDiff] '%s' also has %d tensors of motion layers, which are not used here. To use them, put the file "
            "into models/animatediff_motion_lora too and load it with Load AnimateDiff LoRA.",
            name,
            adapter.motion,
        )
    return model


def _hosts_name(key: str) -> str:
    return DIFFUSERS_ATTENTION.sub(r"\1.processor.\2", key)


def _patches(layers: Layers, others: Tensors, weight_names: Mapping[str, str]) -> dict:
    """The host's weight patches, as its loader makes them of all but the lengths of outputs in DoRA."""
    tensors, lengths = dict(others), {}
    for layer, parts in layers.items():
        for name, part in parts.items():
            if name == "magnitude" or (name == "dora_scale" and len(part) > 1):
                lengths[layer] = part
            else:
                tensors[f"{layer}.{name}"] = part
    patches = comfy.lora.load_lora(tensors, weight_names, log_missing=False)
    for layer, of_outputs in lengths.items():
        change = patches[weight_names[layer]]
        patches[weight_names[layer]] = DoraOfOutputs(change.loaded_keys, (change, of_outputs))
    return patches


def _is_known(file_name: str, key: str, weight_names: Mapping[str, str]) -> bool:
    """Whether the host's loader has taken a tensor that names.py does not know; False if its layer has no place.

    Raises LoraFileError for a layer of which something would be missing.
    """
    part = HOSTS_PARTS.match(key)
    if part is not None:
        return part["layer"] in weight_names
    words = key.split(".")
    if any(".".join(words[:count]) in weight_names for count in range(1, len(words))):
        raise LoraFileError(
            f"'{file_name}' holds something of a kind that this version does not know ({key}), without which the rest "
            "would make another picture. Use a LoRA that holds nothing else, or merge it into its checkpoint with the "
            "program that made it."
        )
    return False


def _check_shapes(name: str, layers: Layers, weight_names: Mapping[str, str], model) -> None:
    """Raise before sampling what the host would only log, for every layer, while it samples without the layer."""
    weights = model.model.state_dict()
    misshapen = []
    for layer, parts in layers.items():
        key = weight_names[layer]
        if key in weights and not parts.keys() <= BESIDE_A_CHANGE:
            out, width = shape_of(parts)
            if (out, width) != (weights[key].shape[0], weights[key][0].numel()):
                misshapen.append(f"{key} is {tuple(weights[key].shape)}, the adapter {width} \u2192 {out}")
    if misshapen:
        raise LoraFileError(
            f"'{name}' is for another checkpoint family: {len(misshapen)} of {len(layers)} layers have other shapes "
            f"({misshapen[0]}, …). This checkpoint is {type(model.model).__name__}: use one of the family it was trained for."
        )


def lora_model(pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> Tensors:
    """LORA_MODEL, as the host's own training node makes it, of the UNet's layer names and their ``(down, up)``.

    Names are those of the MODEL's network, ``diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q``, which
    the host finds in UNets of any depth. The change of a layer's weight is ``up @ down``.
    """
    tensors = {f"{layer}.lora_down.weight": down for layer, (down, _) in pairs.items()}
    return tensors | {f"{layer}.lora_up.weight": up for layer, (_, up) in pairs.items()}


def save_lora_model(
    tensors: Tensors, path: str, metadata: Mapping[str, object] | None = None, dtype: torch.dtype = torch.float16
) -> None:
    """Write a LORA_MODEL, the host's training node's too, to a new file that Load Domain Adapter and Load LoRA read.

    A domain adapter of SD1.5 or SDXL in kohya's names, so that diffusers and kohya's scripts read it too. ``metadata`` as in
    save_motion_lora. Raises what save_tensors raises.
    """
    ranks = [value.shape[0] for key, value in tensors.items() if key.endswith("lora_down.weight")]
    # Numbers such as alpha stay as they are: in float16 a large one would be infinite.
    tensors = {key: value.to(dtype) if value.ndim > 1 else value for key, value in tensors.items()}
    save_tensors(named_as_kohya(tensors), path, {f"{METADATA_PREFIX}rank": max(ranks, default=0), **(metadata or {})})
