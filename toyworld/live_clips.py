"""Clips of the toy world sampled in this process, on its live channels: the same pictures in a tenth of the time."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import text_encoder
from .prompts import BOXES, CONTEXTS, FOLLOW, Clip
from .recipe import Bench


class LiveSampler:
    """As ``claims.Sampler``, without a server: of clips of the shipped motion model, in windows or without, and along a path."""

    def __init__(self, pack):
        self.bench = Bench(pack)
        self.clip = text_encoder.clip()
        self.nodes = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}

    def __call__(self, clips: list[Clip]) -> list[np.ndarray]:
        return [self.bench.sampled(self.model(c), c.caption, c.seed, c.frames) for c in clips]

    def model(self, clip: Clip):
        if clip != Clip(clip.caption, clip.seed, frames=clip.frames, windows=clip.windows, path=clip.path):
            raise SystemExit("This part of the table needs a ComfyUI server: leave --live out.")
        contexts = () if clip.windows is None else self.run(*CONTEXTS[clip.windows])
        model = self.bench.model(contexts=contexts)
        if clip.path is None:
            return model
        path = self.run("AnimateDiffMotionPath", {"places": clip.path, **BOXES})
        text = {"clip": self.clip, "prompt": clip.caption}
        return self.run("AnimateDiffFollowPath", {"model": model, "path": path, **text, **FOLLOW})

    def run(self, node_id: str, inputs: dict[str, Any]):
        """The first output of a node."""
        return self.nodes[node_id].execute(**inputs).args[0]
