"""Clips of the toy world sampled in this process, on its live channels: the same pictures in a tenth of the time."""

from __future__ import annotations

import numpy as np

from .prompts import CONTEXTS, Clip
from .recipe import Bench


class LiveSampler:
    """As ``claims.Sampler``, without a server: of clips of the shipped motion model, in windows or without."""

    def __init__(self, pack):
        self.bench = Bench(pack)
        self.nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}

    def __call__(self, clips: list[Clip]) -> list[np.ndarray]:
        return [self.bench.sampled(self.model(c), c.caption, c.seed, c.frames) for c in clips]

    def model(self, clip: Clip):
        if clip != Clip(clip.caption, clip.seed, frames=clip.frames, windows=clip.windows):
            raise SystemExit("This part of the table needs a ComfyUI server: leave --live out.")
        if clip.windows is None:
            return self.bench.model()
        node, inputs = CONTEXTS[clip.windows]
        (contexts,) = self.nodes[node].execute(**inputs).args
        return self.bench.model(contexts=contexts)
