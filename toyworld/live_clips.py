"""Clips of the toy world sampled in this process, on its live channels: the same pictures in a tenth of the time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .prompts import CONTEXTS, Clip
from .recipe import Bench


class LiveSampler:
    """As ``claims.Sampler``, without a server: of stills and of clips in windows or without, with MotionLoRAs or without.

    MotionLoRAs are files of ``models``.
    """

    def __init__(self, bench: Bench, models: Path):
        self.bench, self.loras = bench, models / "animatediff_motion_lora"
        self.nodes = {node.GET_SCHEMA().node_id: node for node in bench.pack.submodule("nodes").NODES}
        self.frames: dict[Clip, np.ndarray] = {}

    def __call__(self, clips: list[Clip]) -> list[np.ndarray]:
        for clip in clips:
            if clip not in self.frames:
                self.frames[clip] = self.bench.sampled(self.model(clip), clip.caption, clip.seed, clip.frames)
        return [self.frames[clip] for clip in clips]

    def model(self, clip: Clip):
        plain = Clip(
            clip.caption,
            clip.seed,
            motion=None if clip.motion is None else Clip.motion,
            loras=clip.loras,
            lora_strength=clip.lora_strength,
            frames=clip.frames,
            windows=clip.windows,
        )
        if clip != plain:
            raise SystemExit("This part of the table needs a ComfyUI server: leave --live out.")
        if clip.motion is None:
            return self.bench.still
        contexts = ()
        if clip.windows is not None:
            node, inputs = CONTEXTS[clip.windows]
            (contexts,) = self.nodes[node].execute(**inputs).args
        files = [self.loras / f"{name}.safetensors" for name in clip.loras]
        return self.bench.animated(*files, strength=clip.lora_strength, contexts=contexts)
