#!/usr/bin/env bash
# PyTorch 2.11.0 on a CPU (1 December 2026): in bf16 its attention kernel takes ten times as long as the formula, forward and backward,
# for many short sequences.
#
# Temporal attention of motion modules has one sequence for each place of the latent, as long as the clip has frames: here 256 of 16
# tokens, 8 heads of 40 channels. scaled_dot_product_attention takes its "flash" kernel there, which is made for few long sequences.
# In float32 it is slower than the formula, too, and bf16 makes it slower still, where one expects it to be faster. Who trains a motion
# module on a CPU is better off with softmax(q k^T) v, whose scores are smaller than the queries at this length. (Without gradients,
# and for many more sequences at once, the kernel is the faster one in float32.)
#
# Output seen, on two cores of an AMD EPYC:
#   PyTorch 2.11.0: attention kernel / formula, forward and backward: 1.6 in float32, 9.8 in bf16
# (once more: 1.8 and 9.8)
# Fails if the kernel comes within three times the formula in bf16.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.11.0 numpy
cat > "$folder/attention.py" <<'EOP'
import statistics
import time

import torch

SEQUENCES, HEADS, FRAMES, CHANNELS = 256, 8, 16, 40


def formula(q, k, v):
    return (q * CHANNELS**-0.5 @ k.transpose(-1, -2)).softmax(-1) @ v


def taken(attend, dtype):
    generator = torch.Generator().manual_seed(0)
    shape = SEQUENCES, FRAMES, HEADS, CHANNELS
    q, k, v = (torch.randn(shape, generator=generator).to(dtype).transpose(1, 2).requires_grad_() for _ in range(3))
    begun = time.perf_counter()
    attended = attend(q, k, v)
    attended.backward(torch.ones_like(attended))
    return time.perf_counter() - begun


def ratio(dtype):
    """In turns, so that what else the machine does meets both."""
    both = torch.nn.functional.scaled_dot_product_attention, formula
    kernel, plain = zip(*([taken(attend, dtype) for attend in both] for _ in range(40)), strict=True)
    return statistics.median(kernel) / statistics.median(plain)


torch.set_num_threads(2)
print(torch.__version__.split("+")[0], f"{ratio(torch.float32):.1f} {ratio(torch.bfloat16):.1f}")
EOP
read -r version full half < <("$folder/venv/bin/python" "$folder/attention.py")
echo "PyTorch $version: attention kernel / formula, forward and backward: $full in float32, $half in bf16"
python3 -c "import sys; sys.exit($half < 3)"
