"""Motion modules inside a ControlNet: what Advanced-ControlNet's SparseCtrl takes from this pack.

SparseCtrl (Guo et al., arXiv 2311.16933) is a ControlNet with temporal layers in its down blocks. The node pack that
runs it builds these layers with the classes that an animation pack publishes in the shared dictionary, under names
and with methods that it expects; that is why this one module keeps the length of the clip as a state: a ControlNet
calls its layers with the hidden states only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import nn

from ...host import shared_dict
from ...host.patcher import default_class
from ..files.motion_model import interpret
from ..files.numbers import refuse_impossible_numbers
from ..network.call import ModuleInputs, MotionInputs
from ..network.injection import MotionModelMismatch, find_sites, insert
from ..network.temporal import MotionModel, MotionModule

# Of the contract, not of this pack.
VERSION = 10000
NAME = "ADE"


@dataclass(frozen=True)
class AnimateDiffInfo:
    """What the caller knows of a file: family of checkpoints, layout, version, and the file's name."""

    family: str
    layout: str
    version: str
    name: str


class ControlMotionSlot(nn.Module):
    """A layer of a ControlNet that runs one motion module. The module's weights belong to the motion model's patcher."""

    def __init__(self, module: MotionModule, model: "ControlMotionModel"):
        super().__init__()
        self.motion = (module, model)  # a plain tuple is no submodule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x (conds * frames, channels, height, width)`` -> same shape."""
        module, model = self.motion
        frames = model.video_length or x.shape[0]
        if x.shape[0] % frames:
            raise ValueError(
                f"A ControlNet with motion modules got {x.shape[0]} pictures, which are no whole clips of {frames} "
                "frames. Give its hint as many pictures as the clip has frames, or use it without context windows."
            )
        return module(x, frames, model.inputs)


class ControlMotionModel(MotionModel):
    """A motion model for the down blocks of a ControlNet, with the methods that the shared dictionary promises.

    ``mm_state_dict``: its tensors under AnimateDiff's names, which give its shape; they are loaded by the caller, with
    ``load_state_dict``. ``init_kwargs["get_unet_func"]``: from this model and a patcher to the ControlNet's network.
    Raises MotionModelFileError for tensors that are no motion model.
    """

    def __init__(
        self, mm_state_dict: dict[str, torch.Tensor], mm_info: AnimateDiffInfo, init_kwargs: dict | None = None
    ):
        spec, tensors = interpret(mm_info.name, mm_state_dict, {})
        refuse_impossible_numbers(mm_info.name, tensors)
        super().__init__(spec)
        self.eval().requires_grad_(False)
        self.network_of: Callable = (init_kwargs or {}).get("get_unet_func") or _diffusion_model
        self.video_length: int | None = None
        self.scale = self.effect = 1.0

    @property
    def inputs(self) -> MotionInputs:
        scale = () if self.scale == 1.0 else (self.scale,) * self.spec.attention_blocks
        return MotionInputs(ModuleInputs(scale, None if self.effect == 1.0 else self.effect))

    def inject(self, patcher) -> None:
        """Put the modules into the down blocks of the patcher's network. Raises MotionModelMismatch."""
        network = self.network_of(self, patcher)
        self.eject(patcher)
        places = find_sites(SimpleNamespace(input_blocks=network.input_blocks, middle_block=None, output_blocks=()))[
            "down"
        ]
        modules = self.modules_of("down")
        wanted = [channels for level in self.spec.down for channels in level]
        found = [site.channels for site in places]
        if wanted != found:
            raise MotionModelMismatch(
                f"The motion modules of '{self.spec.name}' are for {wanted} channels, but its ControlNet has places for "
                f"{found}. Use a SparseCtrl file for the checkpoint's family."
            )
        for site, module in zip(places, modules, strict=True):
            insert(site, ControlMotionSlot(module, self))

    def eject(self, patcher) -> None:
        for block in self.network_of(self, patcher).input_blocks:
            for index in reversed(range(len(block))):
                if isinstance(block[index], ControlMotionSlot) and block[index].motion[1] is self:
                    del block[index]

    def set_video_length(self, video_length: int, full_length: int | None = None) -> None:
        """``video_length``: the frames of the coming calls; of the whole clip, ``full_length``, nothing depends."""
        self.video_length = video_length

    def set_scale(self, scale: float | None) -> None:
        self.scale = 1.0 if scale is None else float(scale)

    def set_effect(self, effect: float | None) -> None:
        self.effect = 1.0 if effect is None else float(effect)

    def cleanup(self) -> None:
        self.scale = self.effect = 1.0


def _diffusion_model(model: ControlMotionModel, patcher) -> nn.Module:
    return patcher.model.diffusion_model


def create_patcher(model: nn.Module, load_device: torch.device, offload_device: torch.device):
    """The host's patcher for a motion model of the caller's."""
    return default_class()(model, load_device=load_device, offload_device=offload_device)


def register() -> None:
    """Publish what Advanced-ControlNet looks for. Called once, when the pack is imported."""
    shared_dict.publish(
        NAME,
        {
            "version": VERSION,
            "create_MotionModelPatcher": create_patcher,
            "AnimateDiffModel": ControlMotionModel,
            "AnimateDiffInfo": AnimateDiffInfo,
        },
    )
