"""A node for the log of a training (dev/training_log.py): the toy world's networks without the channels that are zero.

ComfyUI takes the toy world's checkpoint for SD1.5 because of those zeros. Without them all nodes do the same in a tenth of the time
(toyworld/live.py).
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.append(
    str(Path(__file__).resolve().parents[2])
)  # last: ComfyUI has modules that are named like folders of ours


class LiveText:
    """The checkpoint's CLIP; of what it encodes, the channels that are not zero."""

    def __init__(self, clip):
        self.clip = clip

    def __getattr__(self, name: str):
        return getattr(self.clip, name)

    def encode_from_tokens(self, tokens, return_pooled=False):
        cond, pooled = self.clip.encode_from_tokens(tokens, return_pooled=True)
        return (self._live(cond), pooled) if return_pooled else self._live(cond)

    def encode_from_tokens_scheduled(self, *args, **kwargs):
        return [[self._live(cond), told] for cond, told in self.clip.encode_from_tokens_scheduled(*args, **kwargs)]

    @staticmethod
    def _live(cond):
        from toyworld import unet

        return cond[..., : unet.LIVE_TEXT].clone()


class LiveToyWorld:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip": ("CLIP",)}}

    RETURN_TYPES = ("MODEL", "CLIP", "MOTION_MODEL_ADE")
    FUNCTION = "load"
    CATEGORY = "AnimateDiff/toy world"

    def load(self, clip):
        import nodes  # ComfyUI's
        from toyworld import live

        module = nodes.NODE_CLASS_MAPPINGS["AnimateDiffTrainMotionLoRA"].__module__
        name = module[: module.rindex(".nodes.")]
        pack = SimpleNamespace(submodule=lambda part: importlib.import_module(f"{name}.{part}"))
        return live.text_to_image(), LiveText(clip), live.motion_patcher(pack)


NODE_CLASS_MAPPINGS = {"LiveToyWorld": LiveToyWorld}
NODE_DISPLAY_NAME_MAPPINGS = {"LiveToyWorld": "Toy world, without zeros"}
__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
