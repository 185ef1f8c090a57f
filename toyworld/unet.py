"""The live part of the toy world's UNet, and how it becomes one that ComfyUI takes for SD1.5.

ComfyUI knows SD1.5 by 320 channels and a text width of 768. A UNet of one level with one residual block and one
transformer per block is enough here, and a quarter of its channels; the others are zero and stay out of the files.
The live part is the host's own UNet at a quarter of the width, with norms that compute what they would at full
width: group norm has 32 groups, of which whole groups are alive, and layer norm takes its mean over all channels.
"""

import comfy.ops
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import nn

WIDTH, LIVE = 320, 80
TEXT_WIDTH, LIVE_TEXT = 768, 64
HEADS = 8
SHAPE = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1],
    "use_spatial_transformer": True,
    "legacy": False,
    "dtype": torch.float32,
}


class _GroupNorm(nn.GroupNorm):
    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, **_):
        super().__init__(num_groups * LIVE // WIDTH, num_channels, eps, affine)


class FullWidthLayerNorm(nn.Module):
    """Layer norm of the live channels among ``WIDTH / LIVE`` times as many, the others being zero."""

    def __init__(self, channels: int, eps: float = 1e-5, **_):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = LIVE / WIDTH
        mean = x.mean(-1, keepdim=True) * share
        variance = (x * x).mean(-1, keepdim=True) * share - mean * mean
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class _Operations(comfy.ops.disable_weight_init):
    class Linear(nn.Linear):
        pass

    class Conv2d(nn.Conv2d):
        pass

    GroupNorm = _GroupNorm
    LayerNorm = FullWidthLayerNorm

    @classmethod
    def conv_nd(cls, dims, *args, **kwargs):
        return cls.Conv2d(*args, **kwargs)


def live_unet() -> UNetModel:
    unet = UNetModel(
        **SHAPE,
        model_channels=LIVE,
        num_heads=HEADS * LIVE // WIDTH,
        context_dim=LIVE_TEXT,
        operations=_Operations,
    )
    # the embedding of the time step is not learned: all of its channels are alive
    unet.model_channels = WIDTH
    unet.time_embed[0] = nn.Linear(WIDTH, 4 * LIVE)
    # as in every diffusion UNet, what is added to the picture begins at zero
    for name, module in unet.named_modules():
        if name.endswith(("out_layers.3", "proj_out")) or name == "out.2":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return unet.to(memory_format=torch.channels_last)


def _places(live: int, full: int) -> torch.Tensor:
    """Where the live channels of one dimension lie among all.

    Dimensions that join two tensors (a skip connection, value and gate of a GEGLU) are alive in both halves.
    """
    if live < full and full in (2 * WIDTH, 8 * WIDTH):
        half = torch.arange(live // 2)
        return torch.cat((half, half + full // 2))
    return torch.arange(live)


def place(live: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """``live`` among zeros in a tensor of ``shape``."""
    full = live.new_zeros(shape)
    full[torch.meshgrid(*map(_places, live.shape, shape), indexing="ij")] = live
    return full


def take(full: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The live part of ``shape`` out of a full tensor: the inverse of ``place``."""
    return full[torch.meshgrid(*map(_places, shape, full.shape), indexing="ij")]


def full_unet_shapes() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        unet = UNetModel(
            **SHAPE,
            model_channels=WIDTH,
            num_heads=HEADS,
            context_dim=TEXT_WIDTH,
            operations=comfy.ops.disable_weight_init,
        )
    return {name: tuple(value.shape) for name, value in unet.state_dict().items()}
