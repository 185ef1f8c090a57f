"""Full-size models with random weights: the models that the reference latents were sampled with (5 GB).

    cd COMFYUI && python .../dev/random_weights.py FOLDER

Writes an SD1.5 checkpoint, motion models in the layouts of AnimateDiff v1, v2 and v3, and a MotionLoRA. Shapes and names are
those of the published files. The numbers are random, but each layer keeps the size of what goes through it, so that
a network of any depth stays finite and its output depends on every part of it.

The reference latents only hold for exactly these weights, so the written files are compared with the checksums in
tests/reference: a PyTorch that draws other numbers is told here, not by latents that differ later.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from pack import enter_host
from reference import weight_checksums
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]

WIDTHS = (320, 640, 1280, 1280)  # channels of SD1.5's UNet, level by level
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": WIDTHS[0],
    "channel_mult": tuple(width // WIDTHS[0] for width in WIDTHS),
    "num_res_blocks": [2, 2, 2, 2],
    "num_heads": 8,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "use_linear_in_transformer": False,
    "legacy": False,
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
LORA_RANK = 8


def main(folder: Path) -> None:
    enter_host(Path.cwd(), ["--cpu"])
    # One source of chance for all files: their order is part of what they are.
    chance = torch.Generator().manual_seed(0)
    save(checkpoint(chance), folder / "checkpoints" / "random_sd15.safetensors")
    models = folder / "animatediff_models"
    v2 = motion_model(chance, positions=32, mid=True)
    save(v2, models / "random_v2.safetensors")
    save(motion_model(chance, positions=24), models / "random_v1.safetensors")
    save(motion_model(chance, positions=32), models / "random_v3.safetensors")
    save(motion_lora(chance, v2), folder / "animatediff_motion_lora" / "random_motion_lora.safetensors")
    check(folder)


def save(tensors: Tensors, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def check(folder: Path) -> None:
    """Stop if a file is not the one that the reference latents were made with."""
    other = [name for name, checksum in weight_checksums().items() if sha256(folder / name) != checksum]
    if other:
        raise SystemExit(
            f"PyTorch {torch.__version__} drew other random weights on this machine than the reference latents were made "
            f"with, so nothing can be compared with them. Other than expected: {', '.join(other)}.\n"
            "Use the environment that dev/hosts.py makes (unset COMFYUI_PATH), or copy its folder of weights here."
        )


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def draw(shapes: dict[str, tuple[int, ...]], gain: float, chance: torch.Generator) -> Tensors:
    """Random float32 tensors. Matrices and kernels: deviation gain / sqrt(inputs); norms near 1; biases near 0."""
    tensors = {}
    for name, shape in shapes.items():
        tensor = torch.randn(shape, generator=chance)
        if len(shape) > 1:
            tensor = tensor * gain / math.prod(shape[1:]) ** 0.5
        else:
            tensor = 0.05 * tensor
            if name.endswith("weight"):
                tensor = 1 + tensor
        tensors[name] = tensor
    return tensors


def half(tensors: Tensors) -> Tensors:
    return {name: tensor.half().contiguous() for name, tensor in tensors.items()}


def checkpoint(chance: torch.Generator) -> Tensors:
    """UNet, text encoder and VAE of SD1.5 in one file. The shapes are asked of the host's own networks."""
    import comfy.ops
    import comfy.sd1_clip
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(**UNET, dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    text_encoder = comfy.sd1_clip.SD1ClipModel(device="cpu", dtype=torch.float32).clip_l.transformer
    networks = {
        "model.diffusion_model.": (unet, 0.7),
        "cond_stage_model.transformer.": (text_encoder, 0.5),
        "first_stage_model.": (AutoencoderKL(ddconfig=VAE, embed_dim=4), 0.7),
    }
    tensors = {}
    for prefix, (network, gain) in networks.items():
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        tensors |= half({prefix + name: tensor for name, tensor in draw(shapes, gain, chance).items()})
    # drawn with the rest, but no part of published SD1.5 checkpoints
    return {name: tensor for name, tensor in tensors.items() if "text_projection" not in name}


def motion_model(chance: torch.Generator, positions: int, mid: bool = False) -> Tensors:
    """A motion model in AnimateDiff's layout, its position tables ``positions`` frames long."""
    shapes, tables = {}, {}
    for module, width in modules(mid):
        shapes |= {f"{module}.temporal_transformer.{name}": shape for name, shape in transformer_shapes(width)}
        for i in range(2):
            name = f"{module}.temporal_transformer.transformer_blocks.0.attention_blocks.{i}.pos_encoder.pe"
            tables[name] = position_table(positions, width)
    tensors = draw(shapes, 0.6, chance)
    for name in tensors:
        if ".to_q." in name or ".to_k." in name:
            # Attention with peaks: else scale, positions and the order of windows would hardly show in the latents.
            tensors[name] *= 2.5
    return half(tensors | tables)


def modules(mid: bool) -> Iterator[tuple[str, int]]:
    """Name and channels of each motion module: two in a level of the way down, three in one of the way up."""
    for level, width in enumerate(WIDTHS):
        for i in range(2):
            yield f"down_blocks.{level}.motion_modules.{i}", width
        for i in range(3):
            yield f"up_blocks.{len(WIDTHS) - 1 - level}.motion_modules.{i}", width
    if mid:
        yield "mid_block.motion_modules.0", WIDTHS[-1]


def transformer_shapes(width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The weights of one temporal transformer, without its position tables."""

    def layer(name: str, *shape: int, bias: bool = True) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", shape
        if bias:
            yield f"{name}.bias", shape[:1]

    block = "transformer_blocks.0"
    yield from layer("norm", width)
    yield from layer("proj_in", width, width)
    yield from layer("proj_out", width, width)
    for i in range(2):
        for part in ("to_q", "to_k", "to_v"):
            yield from layer(f"{block}.attention_blocks.{i}.{part}", width, width, bias=False)
        yield from layer(f"{block}.attention_blocks.{i}.to_out.0", width, width)
        yield from layer(f"{block}.norms.{i}", width)
    yield from layer(f"{block}.ff.net.0.proj", 8 * width, width)
    yield from layer(f"{block}.ff.net.2", width, 4 * width)
    yield from layer(f"{block}.ff_norm", width)


def position_table(positions: int, width: int) -> torch.Tensor:
    """Sines and cosines of each position (Vaswani et al. 2017, section 3.5): (1, positions, width)."""
    slowness = -torch.log(torch.tensor(10000.0)) / width
    # The exponential of float32 differs in its last bit from one processor to another.
    steps = torch.exp((torch.arange(0, width, 2) * slowness).double()).float()
    angles = torch.arange(positions)[:, None] * steps
    return torch.stack((angles.sin(), angles.cos()), dim=-1).reshape(1, positions, width)


def motion_lora(chance: torch.Generator, model: Tensors) -> Tensors:
    """A MotionLoRA for all attention layers of ``model``, in the layout of the published v2 ones."""
    tensors = {}
    for name, weight in model.items():
        if not name.endswith((".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.0.weight")):
            continue
        attention, _, layer = name.removesuffix(".weight").removesuffix(".0").rpartition(".")
        outputs, inputs = weight.shape
        for part, shape in (("down", (LORA_RANK, inputs)), ("up", (outputs, LORA_RANK))):
            matrix = torch.randn(shape, generator=chance).half() * 0.1
            tensors[f"{attention}.processor.{layer}_lora.{part}.weight"] = matrix
    return tensors


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
