"""Where motion modules sit in a UNet, and how they get in and out.

The UNet is altered only while a sampler run is under way. A module is placed behind the spatial transformer of a
block (behind the residual block where there is none), before any upsampling: AnimateDiff (arXiv 2307.04725) inserts
one "at every resolution level" after the pretrained spatial layers.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import nn

from ...host.told import Told
from ..spec import MotionModelSpec
from .call import MotionCall, MotionCallError
from .temporal import MotionModel, MotionModule

# In the transformer_options of a compiled UNet: ``(x, place of a slot) -> x``, which computes slots in place of themselves.
ELSEWHERE_KEY = "animatediff_slots_elsewhere"


class MotionModelMismatch(Told, ValueError):
    """A motion model and a UNet that do not belong together."""


class Site(NamedTuple):
    """A place for one motion module: ``block[index]`` is the layer that it follows."""

    block: nn.Sequential
    index: int
    channels: int


class MotionSlot(nn.Module):
    """A layer of the UNet that runs one motion module.

    The module is kept out of the UNet's own tree (a plain tuple is no submodule): its weights belong to the motion
    model's patcher, and the UNet's parameters and state dict stay free of them.
    """

    def __init__(self, module: MotionModule, model_index: int, models: int):
        """``models``: how many motion models the UNet holds; this is number ``model_index`` of them."""
        super().__init__()
        self.motion = (module,)
        self.model_index = model_index
        self.models = models
        self.place = 0  # among all slots of the UNet; `inject` sets it

    def forward(self, x: torch.Tensor, transformer_options: dict | None = None) -> torch.Tensor:
        """``x (clips * frames, channels, height, width)``, clip by clip. Raises MotionCallError."""
        elsewhere = (transformer_options or {}).get(ELSEWHERE_KEY)
        return self.here(x, transformer_options) if elsewhere is None else elsewhere(x, self.place)

    def here(self, x: torch.Tensor, transformer_options: Mapping[str, Any] | None) -> torch.Tensor:
        """As ``forward``, whatever the options say."""
        call = MotionCall.of(transformer_options)
        if len(call.motion) != self.models:
            raise MotionCallError(
                f"A UNet with {self.models} motion models in it was called with the options of a MODEL that has "
                f"{len(call.motion)}. A guider with two MODELs (such as Dual Model CFG Guider) does so: connect MODELs with the "
                "same motion models to both of its inputs."
            )
        clips = call.clips(x.shape[0])
        inputs = call.motion[self.model_index].in_batch((transformer_options or {}).get("uuids", ()), clips)
        return self.motion[0](x, call.frames, inputs)


def run_slot(slot: MotionSlot, x, emb, context, transformer_options, *_):
    """The host's forward_timestep_embed_patch for a MotionSlot."""
    return slot(x, transformer_options)


def _site(block: Any) -> Site | None:
    layers = list(block)
    residual = next((i for i, layer in enumerate(layers) if type(layer) is ResBlock), None)
    spatial = [i for i, layer in enumerate(layers) if type(layer) is SpatialTransformer]
    if spatial:
        return Site(block, spatial[-1], layers[spatial[-1]].in_channels)
    if residual is not None:
        return Site(block, residual, layers[residual].out_channels)
    return None


def find_sites(unet: Any) -> dict[str, list[Site]]:
    """All places for motion modules in ``unet``, by part and in the order in which the UNet runs through them."""
    middle = [] if unet.middle_block is None else [unet.middle_block]
    parts = {"down": unet.input_blocks, "mid": middle, "up": unet.output_blocks}
    return {part: [site for site in map(_site, blocks) if site is not None] for part, blocks in parts.items()}


def check_unet(unet: Any, what: str, family: str = "SD1.5 or SDXL") -> None:
    """Raise MotionModelMismatch unless ``unet`` has blocks for motion modules; ``what`` begins the message."""
    if not all(hasattr(unet, name) for name in ("input_blocks", "middle_block", "output_blocks")):
        raise MotionModelMismatch(
            f"{what} for a Stable Diffusion UNet, but this checkpoint is a {type(unet).__name__}. "
            f"Load a checkpoint for {family}."
        )


def check_fit(spec: MotionModelSpec, unet: Any) -> None:
    """Raise MotionModelMismatch unless the motion model has exactly one module for each place of the UNet.

    A part that the motion model lacks altogether (no mid block, down blocks only) is fine.
    """
    check_unet(unet, f"{spec.name} is a motion model", spec.family)
    sites = find_sites(unet)
    for part, modules in (("down", spec.down), ("mid", (spec.mid,)), ("up", spec.up)):
        wanted = [channels for level in modules for channels in level]
        found = [site.channels for site in sites[part]]
        if wanted and wanted != found:
            raise MotionModelMismatch(
                f"The motion model does not fit this checkpoint's UNet ({part} blocks): the motion model has modules "
                f"for {wanted} channels, the UNet places for {found}. The motion model is {spec}. "
                "Load a motion model made for this checkpoint's family, or another checkpoint."
            )


def inject(unet: Any, models: list[MotionModel]) -> None:
    """Put the modules of all ``models`` into ``unet``. The first model of the list runs last at each place."""
    eject(unet)
    for model in models:
        check_fit(model.spec, unet)
    sites = find_sites(unet)
    for index, model in enumerate(models):
        for part, places in sites.items():
            # a model without this part has no modules to pair
            for site, module in zip(places, model.modules_of(part), strict=False):
                insert(site, MotionSlot(module, index, len(models)))
    for place, slot in enumerate(slots(unet)):
        slot.place = place


def insert(site: Site, slot: nn.Module) -> None:
    """Put a layer behind the one at ``site``, under a name of its own.

    Sequential.insert would rename the layers behind it, and the host looks weights of the UNet up by name while it
    samples: a control LoRA takes what it does not bring along from there.
    """
    layers = list(site.block._modules.items())
    name = f"motion{len(layers)}"
    layers.insert(site.index + 1, (name, slot))
    site.block.add_module(name, slot)
    for key, layer in layers:  # in their new order
        site.block._modules.pop(key)
        site.block._modules[key] = layer


def eject(unet: Any) -> None:
    """Take all motion modules out of ``unet``, which is then as it was before."""
    for block in (*unet.input_blocks, unet.middle_block, *unet.output_blocks):
        for index in reversed(range(len(block or ()))):
            if isinstance(block[index], MotionSlot):
                del block[index]


def slots(unet: nn.Module) -> Iterator[MotionSlot]:
    """All slots in ``unet``, by their place."""
    return (module for module in unet.modules() if isinstance(module, MotionSlot))
