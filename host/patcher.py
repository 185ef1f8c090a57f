"""How a network of ours becomes a model that the host loads, casts, patches and offloads.

Nothing of the host is looked up while this file is imported: all nodes import it, those that need no motion model too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch

# The attachment that holds ``reload`` of make_patcher: releases before 0.16 do not hand cached_patcher_init to clones.
RELOAD = "animatediff_reload"
# The attachment of a motion model's patcher that holds the further networks of its file: their kind -> patcher.
PARTS = "animatediff_parts"


def operations() -> Any:
    """The host's layers.

    Weights are cast to the dtype of the hidden states where they differ: the UNet may run in another dtype than the
    one the motion model was loaded in (bf16 checkpoints, "Model Compute Dtype", fp8 weights).
    """
    return comfy.ops.manual_cast


def weight_dtype() -> torch.dtype:
    """The dtype the host would give a UNet on this machine."""
    return comfy.model_management.unet_dtype()


def default_class() -> type[comfy.model_patcher.ModelPatcher]:
    """The host's patcher class for new models.

    Asked for each time: the host puts its dynamic-VRAM class in CoreModelPatcher's place while it starts. Releases
    before 0.16 have no such name.
    """
    return getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


def maps_files() -> bool:
    """Whether what the host reads of a .safetensors file is mapped into memory: users can tell it not to."""
    return not getattr(comfy.utils, "DISABLE_MMAP", False)


def weights_stay_mapped(disable_dynamic: bool = False) -> bool:
    """Whether the host leaves the weights of a new model in its file, mapped, until they are needed: under dynamic VRAM."""
    dynamic = default_class() is not comfy.model_patcher.ModelPatcher and not disable_dynamic
    return dynamic and comfy.model_management.get_torch_device().type != "cpu"


def make_patcher(module: torch.nn.Module, reload, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """Wrap ``module`` in the host's patcher class.

    ``reload`` is ``(function, arguments)``; ``function(*arguments, disable_dynamic=...)`` must give an equal patcher
    with weights of its own. The host calls it to make copies for other devices.
    """
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else default_class()
    patcher = patcher_class(
        module,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    patcher.cached_patcher_init = reload
    patcher.set_attachments(RELOAD, reload)
    return patcher


def is_dynamic(patcher: comfy.model_patcher.ModelPatcher) -> bool:
    """Whether the host pages the weights of this patcher in and out by itself. Releases before 0.16 do not know that."""
    return getattr(patcher, "is_dynamic", bool)()


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """What the state dict of a network has: names and shapes. Under dynamic VRAM the host's layers have no weights at first."""
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Linear) and layer.weight is None:
            found[f"{name}.weight"] = (layer.out_features, layer.in_features)
            if getattr(layer, "comfy_need_lazy_init_bias", False):
                found[f"{name}.bias"] = (layer.out_features,)
    return found


def reload_of(patcher: comfy.model_patcher.ModelPatcher) -> Any:
    """The ``reload`` that it was made with."""
    return patcher.get_attachment(RELOAD)


def parts(patcher: comfy.model_patcher.ModelPatcher) -> Mapping[str, comfy.model_patcher.ModelPatcher]:
    """What the motion model of ``patcher`` brings besides its temporal modules, such as an image encoder: kind -> patcher."""
    return patcher.get_attachment(PARTS) or {}


def with_parts(
    patcher: comfy.model_patcher.ModelPatcher, more: Mapping[str, comfy.model_patcher.ModelPatcher]
) -> comfy.model_patcher.ModelPatcher:
    """A clone that brings ``more`` as well. Weights are shared."""
    patcher = patcher.clone()
    patcher.set_attachments(PARTS, {**parts(patcher), **more})
    return patcher


def plain_state_dict(patcher: comfy.model_patcher.ModelPatcher) -> dict[str, torch.Tensor]:
    """The weights and buffers of ``patcher.model`` without the weight patches that a run may have left in them."""
    # for each name the weight before any patch, then the patches
    return {key: original for key, ((original, _), *_) in patcher.get_key_patches().items()}


def weights_as_sampled(patcher: comfy.model_patcher.ModelPatcher) -> Callable[[str], torch.Tensor]:
    """A function from the name of a weight or buffer of ``patcher.model`` to its value: a copy on the CPU, in float32.

    Weight patches (MotionLoRAs of constant strength) are in it, as they are when the model samples; the model stays as
    it is, wherever the host keeps it.
    """
    found = patcher.get_key_patches()

    def read(name: str) -> torch.Tensor:
        (original, _), *patches = found[name]
        value = original.detach().to("cpu", torch.float32, copy=True)
        return comfy.lora.calculate_weight(patches, value, name) if patches else value

    return read
