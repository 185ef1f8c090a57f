"""Write an SD1.5 checkpoint and a v2 motion module of the published shapes with random weights.

`PYTHON dev/random_weights.py OUT`, with a ComfyUI folder as the working directory and its interpreter as PYTHON.
What such weights make is noise, but all of the pipeline runs on them, at full size, without a download. (3 GB)
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, os.getcwd())
OUT = Path(sys.argv[1])
sys.argv = [sys.argv[0], "--cpu"]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.ops  # noqa: E402
import comfy.sd1_clip  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencoderKL  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": (1, 2, 4, 4),
    "num_res_blocks": [2, 2, 2, 2],
    "num_heads": 8,
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
    "legacy": False,
    "operations": comfy.ops.disable_weight_init,
}
VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
POSITIONS = 32  # frames that a v2 motion module knows


class TemporalBlock(nn.Module):
    """Parameters of one motion module, under the names of the published files."""

    def __init__(self, channels: int):
        super().__init__()
        block = nn.Module()
        block.attention_blocks = nn.ModuleList(TemporalAttention(channels) for _ in range(2))
        block.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        block.ff = nn.Module()
        geglu = nn.Module()
        geglu.proj = nn.Linear(channels, 8 * channels)  # twice 4x: values and gates
        block.ff.net = nn.ModuleList([geglu, nn.Identity(), nn.Linear(4 * channels, channels)])
        block.ff_norm = nn.LayerNorm(channels)

        self.temporal_transformer = nn.Module()
        self.temporal_transformer.norm = nn.GroupNorm(32, channels)
        self.temporal_transformer.proj_in = nn.Linear(channels, channels)
        self.temporal_transformer.transformer_blocks = nn.ModuleList([block])
        self.temporal_transformer.proj_out = nn.Linear(channels, channels)


class TemporalAttention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.pos_encoder = nn.Module()
        self.pos_encoder.register_buffer("pe", sinusoids(POSITIONS, channels))


def sinusoids(positions: int, channels: int) -> torch.Tensor:
    """Position table [1, positions, channels] of "Attention Is All You Need", section 3.5."""
    angle = torch.arange(positions)[:, None] / 10000 ** (torch.arange(0, channels, 2) / channels)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(1, positions, channels)


def motion_module() -> nn.Module:
    def motion_modules(channels: int, count: int) -> nn.Module:
        block = nn.Module()
        block.motion_modules = nn.ModuleList(TemporalBlock(channels) for _ in range(count))
        return block

    module = nn.Module()
    module.down_blocks = nn.ModuleList(motion_modules(channels, 2) for channels in (320, 640, 1280, 1280))
    module.mid_block = motion_modules(1280, 1)
    module.up_blocks = nn.ModuleList(motion_modules(channels, 3) for channels in (1280, 1280, 640, 320))
    return module


def random_weights(module: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    """Random half-precision weights for `module`, with which no layer makes its input much larger.

    A matrix has a variance of 1 / (4 inputs): residual branches then add to the stream without taking it over.
    """
    for parameter in module.parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5)
        else:
            nn.init.zeros_(parameter)
    for layer in module.modules():
        if isinstance(layer, (nn.GroupNorm, nn.LayerNorm)):
            nn.init.ones_(layer.weight)
    return {prefix + name: value.half().contiguous() for name, value in module.state_dict().items()}


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    text_encoder = comfy.sd1_clip.SD1ClipModel(dtype=torch.float32).clip_l.transformer
    checkpoint = {
        **random_weights(UNetModel(**UNET), "model.diffusion_model."),
        **random_weights(text_encoder.text_model, "cond_stage_model.transformer.text_model."),
        **random_weights(AutoencoderKL(embed_dim=4, ddconfig=VAE), "first_stage_model."),
    }
    for name, tensors in (
        ("checkpoints/random_sd15.safetensors", checkpoint),
        ("animatediff_models/random_v2.safetensors", random_weights(motion_module())),
    ):
        path = OUT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)


main()
