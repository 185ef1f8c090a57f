"""The places in a UNet where a window looks at another one, from the largest pictures in to the whole UNet.

A weight from 0 to 1 says in how many of them. The orders are those of the reference-only and AdaIN preprocessors of the
ControlNet extension (github.com/Mikubill/sd-webui-controlnet, discussion 1236), in whose terms users tune them.
"""

from collections.abc import Iterator
from typing import Any

import comfy.model_base
from comfy.ldm.modules.attention import SpatialTransformer

from ...motion_models.network.injection import check_unet

# ("input", 4): a block of the UNet, as the host names it in transformer_options; with the transformer block behind it,
# ("input", 4, 0), one of its self-attention layers.
Block = tuple[str, int]
Attention = tuple[str, int, int]

# Blocks whose outputs take over statistics: those that work on small pictures.
INPUTS, OUTPUTS = (4, 5, 7, 8, 10, 11), range(8)
SDXL_INPUTS, SDXL_OUTPUTS = (4, 5, 7, 8), range(6)


def check(unet: Any) -> None:
    """Raise MotionModelMismatch for what is no Stable Diffusion UNet."""
    check_unet(unet, "ContextRef is")


def is_sdxl(model: Any) -> bool:
    return isinstance(model, comfy.model_base.SDXL)


def attention_blocks(unet: Any, weight: float) -> frozenset[Attention]:
    """The self-attention layers, widest first: layer k of n if ``weight`` is above k / n."""
    found = list(_self_attention(unet))
    widest_first = sorted(found, key=lambda entry: -entry[1])
    return frozenset(name for k, (name, _) in enumerate(widest_first) if weight > k / len(found))


def _self_attention(unet: Any) -> Iterator[tuple[Attention, int]]:
    """Each with its width, in the order in which the UNet runs through them."""
    block: Any
    for part, blocks in _parts(unet):
        for number, layers in enumerate(blocks):
            for layer in layers:
                if type(layer) is SpatialTransformer:
                    for index, block in enumerate(layer.transformer_blocks):
                        if not block.disable_self_attn:
                            yield (part, number, index), block.norm1.normalized_shape[0]


def statistics_blocks(unet: Any, weight: float, sdxl: bool) -> frozenset[Block]:
    """The blocks that take over statistics: the middle, then inputs and outputs by their distance to it."""
    count = {part: len(blocks) for part, blocks in _parts(unet)}
    thresholds: dict[Block, float] = {("middle", 0): 0.0} if count["middle"] else {}
    for number in SDXL_INPUTS if sdxl else INPUTS:
        thresholds["input", number] = 2.0 * (1.0 - number / count["input"])
    for number in SDXL_OUTPUTS if sdxl else OUTPUTS:
        thresholds["output", number] = 2.0 * number / count["output"]
    return frozenset(
        (part, number)
        for (part, number), threshold in thresholds.items()
        # the host says what is behind the last block to nobody
        if weight > threshold and number < count[part] - (part == "output")
    )


def _parts(unet: Any) -> tuple[tuple[str, Any], ...]:
    middle = [] if unet.middle_block is None else [unet.middle_block]
    return (("input", unet.input_blocks), ("middle", middle), ("output", unet.output_blocks))
