"""Clips of the toy world sampled in this process, on its live channels: the same pictures in a tenth of the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import text_encoder
from .prompts import BOXES, CONTEXTS, FOLLOW, Clip
from .recipe import Bench


class LiveSampler:
    """As ``claims.Sampler``, without a server: of stills and of clips in windows or without, with MotionLoRAs or along a path.

    MotionLoRAs are files of the folder ``shipped``, or of ``models``, where those go that are trained on the way.
    """

    def __init__(self, bench: Bench, models: Path, shipped: Path):
        self.toyworld, self.models, self.shipped = bench, models, shipped
        self.clip = text_encoder.clip()
        self.nodes = {node.GET_SCHEMA().node_id: node for node in bench.pack.submodule("nodes").NODES}
        self.frames: dict[Clip, np.ndarray] = {}

    def bench(self) -> Bench:
        return self.toyworld

    def __call__(self, clips: list[Clip]) -> list[np.ndarray]:
        for clip in clips:
            if clip not in self.frames:
                self.frames[clip] = self.toyworld.sampled(self.model(clip), clip.caption, clip.seed, clip.frames)
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
            path=clip.path,
        )
        if clip != plain:
            raise SystemExit("This part of the table needs a ComfyUI server: leave --live out.")
        if clip.motion is None:
            return self.toyworld.still
        contexts = () if clip.windows is None else self.run(*CONTEXTS[clip.windows])
        files = [self._file(name) for name in clip.loras]
        model = self.toyworld.animated(*files, strength=clip.lora_strength, contexts=contexts)
        if clip.path is None:
            return model
        path = self.run("AnimateDiffMotionPath", {"places": clip.path, **BOXES})
        text = {"clip": self.clip, "prompt": clip.caption}
        return self.run("AnimateDiffFollowPath", {"model": model, "path": path, **text, **FOLLOW})

    def run(self, node_id: str, inputs: dict[str, Any]):
        """The first output of a node."""
        return self.nodes[node_id].execute(**inputs).args[0]

    def _file(self, name: str) -> Path:
        files = [folder / "animatediff_motion_lora" / f"{name}.safetensors" for folder in (self.shipped, self.models)]
        return next(file for file in files if file.exists())
