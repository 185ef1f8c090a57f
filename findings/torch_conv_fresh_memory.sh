#!/usr/bin/env bash
# PyTorch 2.11.0 with glibc, on Linux and a CPU (30 November 2026): every call of a large convolution takes its memory anew.
#
# A 3x3 convolution of 1280 channels, as SD1.5's UNet has at its lowest levels, brings its weights into another order in each call.
# That takes 59 MB, more than glibc ever keeps for itself (it maps what is above 32 MiB by default, and gives it back at once), so
# all of its pages are faulted in again, 14400 in each call. That was a third of a short sampling step of two frames at 64 pixels. A process
# in which large tensors were freed before, such as a second copy of weights, may find room there and is faster for no merit of its own:
# who compares two programs should give both the variables below.
# MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_, set before the start, have glibc keep such memory.
#
# Output seen:
#   PyTorch 2.11.0: 14401 page faults in each call
#   with MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=1073741824: 0
# Fails if that changes (where the system's pages are of 4 KiB).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.11.0 numpy
cat > "$folder/count.py" <<'EOP'
import resource

import torch

convolution = torch.nn.Conv2d(1280, 1280, 3, padding=1).requires_grad_(False)
pictures = torch.zeros(2, 1280, 8, 8)
CALLS = 20


def faults() -> int:
    """Page faults of each call."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(CALLS):
        convolution(pictures)
    return round((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / CALLS)


faults()  # what only the first calls need
print(torch.__version__.split("+")[0], faults())
EOP
unset MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_
read -r version usual < <("$folder/venv/bin/python" "$folder/count.py")
read -r _ kept < <(MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=1073741824 "$folder/venv/bin/python" "$folder/count.py")
echo "PyTorch $version: $usual page faults in each call"
echo "with MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=1073741824: $kept"
[ "$usual" -gt 14000 ] && [ "$kept" -lt 100 ]
