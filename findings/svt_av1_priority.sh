#!/usr/bin/env bash
# PyAV 18.1.0 (its wheel carries SVT-AV1 4.1.0): encoding AV1 as root leaves the calling thread with real-time priority.
#
# SVT-AV1 asks Linux for SCHED_FIFO, priority 99, on the thread that opens it, and does not take that back when the file is
# closed. Threads and processes that are started later inherit it: whoever runs ComfyUI as root and saves one AV1 video has a
# server that goes before everything else on the machine. Where the system refuses (no root, or no CAP_SYS_NICE, as in Docker
# by default), nothing is said and nothing happens.
#
# Output seen, as root:
#   before: policy 0, priority 0
#   after: policy 1, priority 99
# Fails if that changes; needs Linux and root.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "Run it as root: without, the system refuses." >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy
"$folder/venv/bin/python" - 2> "$folder/log" <<'EOF' || { cat "$folder/log"; exit 1; }
import io
import os

import av
import numpy as np


def told(when: str) -> tuple[int, int]:
    now = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    print(f"{when}: policy {now[0]}, priority {now[1]}")
    return now


before = told("before")
with av.open(io.BytesIO(), mode="w", format="webm") as container:
    stream = container.add_stream("libsvtav1", rate=8)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p10le"
    for _ in range(3):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
    container.mux(stream.encode())
assert (before, told("after")) == ((0, 0), (1, 99))
EOF
