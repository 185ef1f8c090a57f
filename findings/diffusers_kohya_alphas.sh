#!/usr/bin/env bash
# diffusers 0.42.1 with peft 0.21.2 (29 November 2026): of a LoRA in kohya's format, alphas that are not that of most layers are lost.
#
# In such a file each layer has an alpha of its own, and its change is alpha / rank times up @ down. load_lora_weights makes of the
# alphas that deviate an alpha_pattern for peft, under names that no layer has (…attn2.processor.to_q_lora.down.weight in place of
# …attn2.to_q). peft warns that they "did not match any targeted module and were ignored", and the layers act with the alpha that
# most of them have. So a file for diffusers needs one alpha for all of its layers, and the differences in its weights.
#
# Output seen:
#   diffusers 0.42.1, peft 0.21.2, rank 4
#   alpha 2 in all layers: attn1 0.50, attn2.to_q 0.50, attn2.to_k 0.50
#   alpha 2 in attn2.to_q, else 4: attn1 1.00, attn2.to_q 1.00, attn2.to_k 1.00
# Fails if that changes; right were 0.50 for attn2.to_q in both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 peft==0.21.2 accelerate==1.15.0 transformers==5.24.0 torch==2.11.0
"$folder/venv/bin/python" - "$folder" 2> "$folder/log" <<'EOP' || { cat "$folder/log"; exit 1; }
import sys
from importlib.metadata import version
from pathlib import Path

import diffusers
import torch
from safetensors.torch import save_file

RANK = 4
KINDS = ("attn1", "attn2.to_q", "attn2.to_k")


def strengths(alpha_of):
    """What load_lora_weights multiplies up @ down by, in layers of each kind; ``alpha_of`` gives a layer's alpha by its name."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(block_out_channels=(32, 64, 64, 64), cross_attention_dim=32)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    tensors, products = {}, {}
    for name, layer in unet.named_modules():
        if ".attn" not in name or not name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0")):
            continue
        down, up = torch.randn(RANK, layer.in_features), torch.randn(layer.out_features, RANK)
        products[f"{name}.weight"] = up @ down
        kohyas = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{kohyas}.lora_down.weight": down, f"{kohyas}.lora_up.weight": up}
        tensors[f"{kohyas}.alpha"] = torch.tensor(float(alpha_of(name)))
    path = Path(sys.argv[1]) / "lora.safetensors"
    save_file(tensors, path)
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipeline = diffusers.StableDiffusionPipeline(
        unet=unet, scheduler=diffusers.DDIMScheduler(), requires_safety_checker=False, **parts
    )
    pipeline.load_lora_weights(path)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    after = pipeline.unet.state_dict()
    found = {}
    for kind in KINDS:
        names = [name for name in products if f"{kind}." in name]
        ratios = {round(((after[name] - before[name]).norm() / products[name].norm()).item(), 2) for name in names}
        (found[kind],) = ratios  # the same in all layers of a kind
    return found


def told(found):
    return ", ".join(f"{kind} {strength:.2f}" for kind, strength in found.items())


alike = strengths(lambda name: 2)
different = strengths(lambda name: 2 if ".attn2.to_q" in name else 4)
print(f"diffusers {diffusers.__version__}, peft {version('peft')}, rank {RANK}")
print("alpha 2 in all layers:", told(alike))
print("alpha 2 in attn2.to_q, else 4:", told(different))
assert alike == dict.fromkeys(KINDS, 0.5), alike
assert different == dict.fromkeys(KINDS, 1.0), different
EOP
