"""MotionLoRAs and domain adapters: loading, scheduling, saving; saving motion models."""

import logging
import os
from dataclasses import replace

import torch
from comfy_api.latest import io

from ..host import folders
from ..host.schema import schema
from ..lora import domain_adapter
from ..lora.motion_lora import (
    ANIMATEDIFF,
    DIFFUSERS,
    AppliedMotionLora,
    MotionLoras,
    read_motion_lora,
    save_motion_lora,
)
from ..motion_models.files.diffusers_folder import save_motion_adapter
from ..motion_models.files.saving import METADATA_PREFIX, save_motion_model
from ..motion_models.network.strength import HOLD, LINEAR, VaryingStrength
from ..sampling.strength.multival import pictures
from ..scheduling import strengths as schedules
from . import sockets
from .base import MARK, EmptyInput, Node
from .file_nodes import FileNode, read_once

CATEGORY = "AnimateDiff/LoRA"
DTYPES = {"float16": torch.float16, "float32": torch.float32}
AS_LOADED = "as loaded"


class LoadMotionLora(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_AnimateDiffLoRALoader",
            display_name="Load AnimateDiff LoRA",
            category=CATEGORY,
            description="Loads a MotionLoRA, which adds one kind of motion (zoom, pan, …) to a motion model. Several add up.",
            search_aliases=[f"Load AnimateDiff LoRA {MARK}", "MotionLoRA", "motion lora"],
            inputs=[
                sockets.file_of(folders.MOTION_LORAS, "name", "MotionLoRAs"),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.001,
                    tooltip="How much of it is added: 0 none, 1 as trained. Lower it if the picture suffers.",
                ),
                sockets.MotionLora.Input(
                    "prev_motion_lora", optional=True, tooltip="MotionLoRAs to apply together with this one."
                ),
            ],
            outputs=[sockets.MotionLora.Output("MOTION_LORA")],
        )

    @classmethod
    def run(cls, name: str, strength: float, prev_motion_lora: MotionLoras = ()) -> MotionLoras:
        path = folders.full_path(folders.MOTION_LORAS, name)
        lora = read_once("MotionLoRA", path, lambda: read_motion_lora(path))
        return (*prev_motion_lora, AppliedMotionLora(lora, VaryingStrength(strength)))


class ScheduleMotionLora(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AnimateDiffScheduleMotionLoRA",
            display_name="Schedule MotionLoRA",
            category=CATEGORY,
            description=(
                "Varies the strength of MotionLoRAs over the sampling run, over the frames and over the picture. "
                "Those of the chain that were scheduled before keep what they have."
            ),
            inputs=[
                sockets.MotionLora.Input("motion_lora", tooltip="The MotionLoRAs whose strength is to vary."),
                io.String.Input(
                    "strengths",
                    default="0.0: 1.0, 0.5: 0.3",
                    multiline=True,
                    tooltip=(
                        "Pairs of percent: strength over the sampling run (0 is pure noise, 1 the finished clip). "
                        "They multiply the strength of the loader. Empty: constant."
                    ),
                ),
                io.Combo.Input(
                    "interpolation",
                    options=[HOLD, LINEAR],
                    default=HOLD,
                    tooltip="Between two pairs: the strength of the earlier one (hold) or a straight line (linear).",
                ),
                io.String.Input(
                    "frame_strengths",
                    default="",
                    multiline=True,
                    tooltip="Pairs of frame: strength (frame 0 is the first), such as 0: 1.0, 15: 0.0. Empty: all alike.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where in the picture they act, one mask for each frame; the last one serves all that follow.",
                ),
            ],
            outputs=[sockets.MotionLora.Output("MOTION_LORA")],
        )

    @classmethod
    def run(
        cls,
        motion_lora: MotionLoras,
        strengths: str,
        interpolation: str,
        frame_strengths: str,
        mask: torch.Tensor | None = None,
    ) -> MotionLoras:
        over_run = schedules.strength_schedule("strengths", strengths, interpolation) if strengths.strip() else None
        mask = None if mask is None else pictures(mask)
        if frame_strengths.strip():
            over_frames = schedules.frame_strengths("frame_strengths", frame_strengths, interpolation)
            mask = over_frames if mask is None else schedules.masks_multiplied(mask, over_frames)
        return tuple(
            applied
            if applied.strength.varies
            else replace(applied, strength=replace(applied.strength, schedule=over_run, mask=mask))
            for applied in motion_lora
        )


class LoadDomainAdapter(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AnimateDiffLoadDomainAdapter",
            display_name="Load Domain Adapter",
            category=CATEGORY,
            description=(
                "Adds a domain adapter (v3_sd15_adapter, one trained here, any UNet LoRA) to a checkpoint. It carries the "
                "look of the training videos; scale 0 leaves it out, and negative scales push away from that look."
            ),
            search_aliases=["v3_sd15_adapter", "domain adapter lora"],
            inputs=[
                sockets.model("The MODEL of the checkpoint."),
                sockets.file_of(folders.LORAS, "lora_name", "LoRAs"),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How much of it is added: 0 none, 1 as trained; below 0 pushes away from its look.",
                ),
            ],
            outputs=[sockets.MODEL_OUTPUT],
        )

    @classmethod
    def run(cls, model, lora_name: str, scale: float):
        if scale == 0.0:
            return model
        path = folders.full_path(folders.LORAS, lora_name)
        adapter = read_once("domain adapter", path, lambda: domain_adapter.read_domain_adapter(path))
        return domain_adapter.with_domain_adapter(model, adapter, scale)


def _filename_prefix(default: str, folder: str) -> io.String.Input:
    return io.String.Input(
        "filename_prefix",
        default=default,
        tooltip=f"Name of the file in models/{folder}; a counter is added, nothing is overwritten. Subfolders are possible.",
    )


def _dtype(options: list[str]) -> io.Combo.Input:
    tooltip = "Precision of the file. float16 is usual and half the size."
    return io.Combo.Input("dtype", options=options, default=options[0], tooltip=tooltip)


def _format(tooltip: str) -> io.Combo.Input:
    return io.Combo.Input(
        "format", options=[ANIMATEDIFF, DIFFUSERS], default=ANIMATEDIFF, optional=True, tooltip=tooltip
    )


def _caption() -> io.String.Input:
    return io.String.Input(
        "caption", default="", multiline=True, optional=True, tooltip="Noted in the file's metadata."
    )


def _training_notes() -> list[io.Input]:
    """What a trained model that carries no notes of its own is noted with."""
    return [
        _caption(),
        io.String.Input(
            "base", default="", optional=True, tooltip="What it was trained for, noted in the file's metadata."
        ),
        io.Int.Input(
            "steps", force_input=True, optional=True, min=0, tooltip="Connect steps_done of the training node."
        ),
    ]


def _noted(**notes) -> dict[str, str]:
    return {f"{METADATA_PREFIX}{name}": str(value) for name, value in notes.items() if value not in ("", None)}


def _saved(key: str, paths: list[str]) -> io.NodeOutput:
    """What a node says that saved files in a models folder: as text to those who look, by name to those who ask the history."""
    for path in paths:
        logging.info("[AnimateDiff] Saved %s", path)
    text = "\n".join(f"Saved {path}" for path in paths)
    return io.NodeOutput(ui={"text": (text,), "models": [folders.result(key, path) for path in paths]})


class SaveMotionLora(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AnimateDiffSaveMotionLoRA",
            display_name="Save MotionLoRA",
            category=CATEGORY,
            description=(
                "Saves MotionLoRAs where Load AnimateDiff LoRA finds them, in the names of AnimateDiff's own or in those of "
                "diffusers. Each of a chain gets a file of its own; strengths and schedules are not part of it."
            ),
            is_output_node=True,
            inputs=[
                sockets.MotionLora.Input(
                    "motion_lora", tooltip="From Train MotionLoRA, or a node that extracts or merges them."
                ),
                _filename_prefix("motion_lora", folders.MOTION_LORAS),
                _dtype(list(DTYPES)),
                _caption(),
                _format(
                    "AnimateDiff: as the published MotionLoRAs, which all ComfyUI packs read. diffusers: for load_lora_weights."
                ),
            ],
            outputs=[],
        )

    @classmethod
    def run(
        cls, motion_lora: MotionLoras, filename_prefix: str, dtype: str, caption: str = "", format: str = ANIMATEDIFF
    ) -> io.NodeOutput:
        if not motion_lora:
            raise EmptyInput(
                "The input motion_lora of Save MotionLoRA holds no MotionLoRA. Connect Train MotionLoRA or Load AnimateDiff LoRA."
            )
        paths = []
        for applied in motion_lora:
            paths.append(folders.new_file(folders.MOTION_LORAS, filename_prefix))
            save_motion_lora(applied.lora, paths[-1], _noted(caption=caption), DTYPES[dtype], format)
        return _saved(folders.MOTION_LORAS, paths)


class SaveDomainAdapter(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AnimateDiffSaveDomainAdapter",
            display_name="Save Domain Adapter",
            category=CATEGORY,
            description="Saves a trained LoRA of a UNet where Load Domain Adapter and ComfyUI's Load LoRA find it.",
            is_output_node=True,
            inputs=[
                sockets.LoraModel.Input("lora", tooltip="From Train Domain Adapter, or from ComfyUI's Train LoRA."),
                _filename_prefix("domain_adapter", folders.LORAS),
                _dtype(list(DTYPES)),
                *_training_notes(),
            ],
            outputs=[],
        )

    @classmethod
    def run(cls, lora, filename_prefix: str, dtype: str, **notes) -> io.NodeOutput:
        if not lora:
            raise EmptyInput("The input lora of Save Domain Adapter holds no weights. Connect Train Domain Adapter.")
        path = folders.new_file(folders.LORAS, filename_prefix)
        domain_adapter.save_lora_model(lora, path, _noted(**notes), DTYPES[dtype])
        return _saved(folders.LORAS, [path])


class SaveMotionModel(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AnimateDiffSaveMotionModel",
            display_name="Save Motion Model",
            category=CATEGORY,
            description=(
                "Saves a motion model where AnimateDiff: Load Model finds it, as one file in AnimateDiff's names or as a folder for "
                "diffusers. MotionLoRAs are not merged into it."
            ),
            is_output_node=True,
            inputs=[
                sockets.MotionModelSocket.Input(
                    "motion_model", tooltip="From Train Motion Module, or a node that merges."
                ),
                _filename_prefix("motion_model", folders.MOTION_MODELS),
                _dtype([AS_LOADED, *DTYPES]),
                *_training_notes(),
                _format(
                    "AnimateDiff: one file, which all ComfyUI packs read. diffusers: a folder for MotionAdapter.from_pretrained."
                ),
            ],
            outputs=[],
        )

    @classmethod
    def run(cls, motion_model, filename_prefix: str, dtype: str, format: str = ANIMATEDIFF, **notes) -> io.NodeOutput:
        path = folders.new_file(folders.MOTION_MODELS, filename_prefix)
        if format == DIFFUSERS:
            path = os.path.splitext(path)[0]
            save_motion_adapter(motion_model, path, _noted(**notes), DTYPES.get(dtype))
        else:
            save_motion_model(motion_model, path, _noted(**notes), DTYPES.get(dtype))
        return _saved(folders.MOTION_MODELS, [path])


NODES = [LoadMotionLora, ScheduleMotionLora, LoadDomainAdapter, SaveMotionLora, SaveDomainAdapter, SaveMotionModel]
