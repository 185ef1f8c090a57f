"""The strength of domain adapters saved here in kohya's own loader, networks/lora.py of sd-scripts, for SD1.5 and SDXL.

    git clone https://github.com/kohya-ss/sd-scripts
    python dev/kohya.py sd-scripts

An adapter of two ranks on all attention layers is saved as Save Domain Adapter saves it, and kohya's code loads it at 0.6 onto
kohya's own UNets, without their weights. Prints what every layer is changed by, over what was saved; exit status 1 if that is not 0.6.
Run it in ComfyUI's Python with diffusers, transformers and opencv-python, as the tests have them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import hosts
from pack import load_pack

SCALE, RANKS = 0.6, {"attn1": 2, "attn2": 3}
PROJECTIONS = (".to_q", ".to_k", ".to_v", ".to_out.0")
# The blocks of SD1.5, as ComfyUI says them.
SD15 = {"num_res_blocks": [2] * 4, "channel_mult": (1, 2, 4, 4), "transformer_depth": [1] * 6 + [0] * 2}
SD15 |= {"transformer_depth_output": [1] * 9 + [0] * 3, "transformer_depth_middle": 1}


def sd15_unet():
    """kohya's UNet of SD1.5 (in diffusers' names), and ComfyUI's name for each of its layers."""
    import comfy.utils
    from library.original_unet import UNet2DConditionModel

    names = comfy.utils.unet_to_diffusers(SD15).items()
    ours = {theirs.removesuffix(".weight"): name.removesuffix(".weight") for theirs, name in names}
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768), ours.__getitem__


def sdxl_unet():
    """kohya's UNet of SDXL, whose layers are called as in ComfyUI."""
    from library.sdxl_original_unet import SdxlUNet2DConditionModel

    return SdxlUNet2DConditionModel(), str


def changes(pack, new_unet, path: str) -> list[tuple[str, float, float]]:
    """Save an adapter for a UNet of kohya's and load it with kohya's code.

    For each layer its name, the ratio of the loaded change to the saved one, and how far it is from a multiple of that.
    """
    import torch
    from networks.lora import create_network_from_weights

    with torch.device("meta"):
        unet, ours = new_unet()
    generator, pairs, products = torch.Generator().manual_seed(0), {}, {}
    for name, layer in unet.named_modules():
        if ".attn" not in name or not name.endswith(PROJECTIONS):
            continue
        rank = RANKS["attn1" if ".attn1." in name else "attn2"]
        down = torch.randn(rank, layer.in_features, generator=generator)
        up = torch.randn(layer.out_features, rank, generator=generator)
        pairs[f"diffusion_model.{ours(name)}"] = (down, up)
        products[f"lora_unet_{name.replace('.', '_')}"] = up @ down
    adapters = pack.submodule("lora.domain_adapter")
    adapters.save_lora_model(adapters.lora_model(pairs), path, dtype=torch.float32)

    network, _ = create_network_from_weights(SCALE, path, None, [], unet, for_inference=True)
    network.apply_to([], unet, apply_text_encoder=False)
    loaded = network.load_weights(path)
    found = {lora.lora_name: lora.get_weight().detach() for lora in network.unet_loras}
    if loaded.missing_keys or loaded.unexpected_keys or found.keys() != products.keys():
        raise SystemExit(f"{Path(path).name}: kohya's loader finds other layers than were saved: {loaded}")
    rows = []
    for name, saved in products.items():
        ratio = float((found[name] * saved).sum() / (saved * saved).sum())
        rows.append((name, ratio, float((found[name] - ratio * saved).norm() / saved.norm())))
    return rows


def main(scripts: str) -> int:
    pack = load_pack(hosts.host().path, ["--cpu"])
    sys.path.insert(0, str(Path(scripts).resolve()))
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        for family, new_unet in (("SD1.5", sd15_unet), ("SDXL", sdxl_unet)):
            rows = changes(pack, new_unet, str(Path(folder) / f"{family}.safetensors"))
            ratios, rests = [row[1] for row in rows], [row[2] for row in rows]
            print(
                f"{family}: {len(rows)} layers at {SCALE}: {min(ratios):.6f} to {max(ratios):.6f} of what was saved, "
                f"{max(rests):.1e} off"
            )
            wrong |= not rows or max(abs(ratio - SCALE) for ratio in ratios) > 1e-5 or max(rests) > 1e-5
    return int(wrong)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    raise SystemExit(main(sys.argv[1]))
