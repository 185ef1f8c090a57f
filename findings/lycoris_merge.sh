#!/usr/bin/env bash
# lycoris-lora 4.1.3 (28 November 2026): merging a LoHa or LoKr multiplies it by alpha / rank twice.
#
# In a forward pass, and so in training, the change of a weight is alpha / rank times the product of its factors. merge_to, and
# get_merged_weight and get_diff_weight under it, give (alpha / rank)² times. LoCon is right. So a checkpoint into which LyCORIS
# has merged a LoHa or LoKr is not the network that was trained, unless alpha is the rank; one that loads the file is.
#
# Output seen:
#   LoCon: forward 0.50, merged 0.50
#   LoHa: forward 0.50, merged 0.25
#   LoKr: forward 0.50, merged 0.25
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lycoris-lora==4.1.3 torch==2.11.0
"$folder/venv/bin/python" - 2> "$folder/log" <<'EOF' || { cat "$folder/log"; exit 1; }
import torch
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule

RANK, ALPHA = 4, 2
seen = {}
for name, method, options in (("LoCon", LoConModule, {}), ("LoHa", LohaModule, {}), ("LoKr", LokrModule, {"factor": 2})):
    torch.manual_seed(0)
    layer = torch.nn.Linear(32, 32, bias=False)
    weight = layer.weight.detach().clone()
    lora = method("lora", layer, 1.0, lora_dim=RANK, alpha=ALPHA, **options)
    for parameter in lora.parameters():
        torch.nn.init.normal_(parameter)
    parts = {key: value.detach() for key, value in lora.state_dict().items()}
    if name == "LoCon":
        product = parts["lora_up.weight"] @ parts["lora_down.weight"]
    elif name == "LoHa":
        product = (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])
    else:
        product = torch.kron(parts["lokr_w1"], parts["lokr_w2_a"] @ parts["lokr_w2_b"])
    lora.apply_to()
    lora.eval()
    with torch.no_grad():
        forward = layer(torch.eye(32)).T - weight
        merged = lora.get_merged_weight()[0] - weight
    scale = lambda change: round((change.norm() / product.norm()).item(), 2)
    seen[name] = scale(forward), scale(merged)
    print(f"{name}: forward {seen[name][0]:.2f}, merged {seen[name][1]:.2f}")
assert seen == {"LoCon": (0.5, 0.5), "LoHa": (0.5, 0.25), "LoKr": (0.5, 0.25)}, seen
EOF
