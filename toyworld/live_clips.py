"""Clips of the toy world sampled in this process, on its live channels: the same pictures in a tenth of the time."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_api.latest import InputImpl

from . import text_encoder
from .prompts import CLONING, CONTEXTS, LANDSCAPE_FILE, TRAVEL, Clip, follow, path_node, steps
from .recipe import Bench
from .unet import LIVE_TEXT
from .worlds import LANDSCAPES


class LiveSampler:
    """As ``claims.Sampler``, without a server: of stills and of clips in windows or without, with MotionLoRAs, along a path or with
    the motion of a video, of prompts that travel, with more motion or less.

    MotionLoRAs are files of the folder ``shipped``, or of ``models``, where those go that are trained on the way. Videos are in
    ``videos``.
    """

    def __init__(self, bench: Bench, models: Path, shipped: Path, videos: Path):
        self.toyworld, self.models, self.shipped, self.videos = bench, models, shipped, videos
        self.clip = text_encoder.clip()
        self.nodes = {node.GET_SCHEMA().node_id: node for node in bench.pack.submodule("nodes").NODES}
        self.frames: dict[Clip, np.ndarray] = {}

    def bench(self) -> Bench:
        return self.toyworld

    def __call__(self, clips: list[Clip]) -> list[np.ndarray]:
        for clip in clips:
            if clip not in self.frames:
                what = self.model(clip), self.text(clip), clip.seed, clip.frames
                self.frames[clip] = self.of(clip).sampled(*what, steps=steps(clip))
        return [self.frames[clip] for clip in clips]

    @cached_property
    def landscapes(self) -> Bench:
        return Bench(self.toyworld.pack, LANDSCAPES)

    def of(self, clip: Clip) -> Bench:
        """The world of it."""
        return self.landscapes if clip.checkpoint == LANDSCAPE_FILE else self.toyworld

    def model(self, clip: Clip):
        bench = self.of(clip)
        shipped = f"{bench.world.title}.safetensors"
        plain = Clip(
            clip.caption,
            clip.seed,
            checkpoint=shipped,
            motion=None if clip.motion is None else shipped,
            size=bench.world.size,
            cfg=bench.world.cfg,
            loras=clip.loras,
            lora_strength=clip.lora_strength,
            frames=clip.frames,
            windows=clip.windows,
            cloned=clip.cloned,
            path=clip.path,
            camera=clip.camera,
            followed=clip.followed,
            travel=clip.travel,
            keep_apart=clip.keep_apart,
            scale=clip.scale,
            amount=clip.amount,
        )
        if clip != plain:
            raise SystemExit("This part of the table needs a ComfyUI server: leave --live out.")
        if clip.motion is None:
            return bench.still
        contexts = () if clip.windows is None else self.run(*CONTEXTS[clip.windows])
        files = [self._file(name) for name in clip.loras]
        model = bench.animated(*files, strength=clip.lora_strength, contexts=contexts, scale=clip.scale)
        if clip.cloned is not None:
            reference = {"samples": bench.vae.encode(self.video(clip.cloned))}
            model = self.run("AnimateDiffMotionClone", {"model": model, "reference": reference, **CLONING})
        if (of_path := path_node(clip)) is not None:
            node_id, numbers = of_path
            pictures = {} if clip.followed is None else {"images": self.video(clip.followed)}
            path = self.run(node_id, {**numbers, **pictures})
            text = {"clip": self.clip, "prompt": clip.caption}
            model = self.run("AnimateDiffFollowPath", {"model": model, "path": path, **text, **follow(clip)})
        if clip.amount is not None:
            model = self.run("AnimateDiffMotionAmount", {"model": model, "amount": clip.amount})
        return model

    def text(self, clip: Clip) -> str | list:
        """The caption, or the CONDITIONING of its prompts."""
        if clip.travel is None:
            return clip.caption
        asked = {"prompts": clip.travel, "max_length": clip.frames, "keep_apart": clip.keep_apart, **TRAVEL}
        with torch.inference_mode():
            made = self.run("AnimateDiffPromptScheduling", {"clip": self.clip, **asked})
        return [[cond[..., :LIVE_TEXT].clone(), options] for cond, options in made]

    def video(self, name: str) -> torch.Tensor:
        """The frames of a video as ComfyUI's nodes read it."""
        return InputImpl.VideoFromFile(str(self.videos / name)).get_components().images

    def run(self, node_id: str, inputs: dict[str, Any]):
        """The first output of a node."""
        return self.nodes[node_id].execute(**inputs).args[0]

    def _file(self, name: str) -> Path:
        files = [folder / "animatediff_motion_lora" / f"{name}.safetensors" for folder in (self.shipped, self.models)]
        return next(file for file in files if file.exists())
