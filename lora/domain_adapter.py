"""Domain adapters: LoRAs on the UNet's spatial attention that absorb the look of the training videos.

Guo et al., "AnimateDiff" (arXiv 2307.04725), section 4.1. The published one (v3_sd15_adapter) has the tensor names
``down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight``.
"""

import logging
import os
import re
from collections.abc import Mapping

import comfy.lora
import comfy.lora_convert
import torch

from ..motion_models.files.reading import read_tensors
from ..motion_models.files.saving import METADATA_PREFIX, save_tensors
from ..motion_models.files.wrong_files import is_motion_lora, what_is_it
from ..motion_models.layouts import PREFIX, Tensors

# Names of the text encoder's layers in LoRA files: a domain adapter is for the UNet alone.
TEXT_ENCODER = re.compile(r"^(lora_te|text_encoder|lora_prior_te|clip_)")
# The attention layers of diffusers' UNets, however the writer named them: the host knows them as attnN.processor.to_P.
DIFFUSERS_ATTENTION = re.compile(
    r"^((?:down|mid|up)_block.+\.attn[12])(?:\.processor)?\.(to_(?:q|k|v|out))(?:\.0)?(?=[._])"
)


class DomainAdapterError(ValueError):
    """A file that is no LoRA for the checkpoint at hand; the message says what it is and what to do."""


def load_domain_adapter(model, path: str, scale: float):
    """A clone of ``model`` (a host ModelPatcher) with the LoRA file added at ``scale``.

    Raises DomainAdapterError if nothing of the file applies or shapes differ, and what read_tensors raises.
    """
    name = os.path.basename(path)
    tensors, _ = read_tensors(path)
    tensors = {PREFIX.sub("", key): value for key, value in tensors.items()}
    if is_motion_lora(tensors):
        raise DomainAdapterError(f"'{name}' is no domain adapter. {what_is_it(tensors)}")
    tensors = {DIFFUSERS_ATTENTION.sub(r"\1.processor.\2", key): value for key, value in tensors.items()}
    tensors = comfy.lora_convert.convert_lora(tensors)
    patches = comfy.lora.load_lora(tensors, comfy.lora.model_lora_keys_unet(model.model, {}), log_missing=False)
    if not patches:
        what = what_is_it(tensors) or "It is a motion model: load it with Load AnimateDiff Model."
        raise DomainAdapterError(
            f"Nothing of '{name}' applies to this checkpoint ({type(model.model).__name__}). {what} "
            "If it is a domain adapter, use the checkpoint family it was trained for."
        )
    _check_shapes(name, patches, model)
    model = model.clone()
    applied = model.add_patches(patches, scale)
    used = {key for patch in patches.values() for key in getattr(patch, "loaded_keys", ())}
    unused = [key for key in tensors if key not in used and not TEXT_ENCODER.match(key)]
    logging.info("[AnimateDiff] Domain adapter %s changes %d layers at scale %g", name, len(applied), scale)
    if used and unused:
        logging.warning(
            "[AnimateDiff] %d of %d tensors of the domain adapter '%s' have no place in the checkpoint and were left "
            "out (%s, …).",
            len(unused),
            len(tensors),
            name,
            unused[0],
        )
    return model


def _check_shapes(name: str, patches: dict, model) -> None:
    """Raise before sampling what the host would only log, for every layer, while it samples without the layer."""
    weights = model.model.state_dict()
    misshapen = []
    for key, patch in patches.items():
        if isinstance(key, str) and key in weights and getattr(patch, "name", "") == "lora":
            up, down, _, mid, _, reshape = patch.weights[:6]
            fits = (up.shape[0], down[0].numel()) == (weights[key].shape[0], weights[key][0].numel())
            if mid is None and reshape is None and not fits:
                misshapen.append(f"{key} is {tuple(weights[key].shape)}, the adapter {down.shape[1]} → {up.shape[0]}")
    if misshapen:
        raise DomainAdapterError(
            f"'{name}' is for another checkpoint family: {len(misshapen)} of {len(patches)} layers have other shapes "
            f"({misshapen[0]}, …). This checkpoint is {type(model.model).__name__}."
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

    ``metadata`` as in save_motion_lora. Raises what save_tensors raises.
    """
    ranks = [value.shape[0] for key, value in tensors.items() if key.endswith("lora_down.weight")]
    # Numbers such as alpha stay as they are: in float16 a large one would be infinite.
    tensors = {key: value.to(dtype) if value.ndim > 1 else value for key, value in tensors.items()}
    save_tensors(tensors, path, {f"{METADATA_PREFIX}rank": max(ranks, default=0), **(metadata or {})})
