"""SparseCtrl: pictures or sketches of a few frames guide the whole clip."""

import re

from comfy_api.latest import io

from ...host import folders
from ...host.schema import schema
from ...motion_models.adapters.sparse_ctrl import load_sparse_ctrl
from ...motion_models.network.strength import HOLD, LINEAR, VaryingStrength
from ...sampling.adapters.sparse_ctrl import SparseControl, check_vae
from ...sampling.strength.multival import Multival
from ...scheduling.strengths import strength_schedule
from .. import sockets
from ..base import Node
from ..file_nodes import FileNode
from ..values import MOST_NUMBERS

CATEGORY = "AnimateDiff/SparseCtrl"


class LoadSparseCtrl(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AnimateDiffLoadSparseCtrl",
            display_name="Load SparseCtrl Model",
            category=CATEGORY,
            description="Loads a SparseCtrl file (RGB or scribble), of AnimateDiff's layout or of diffusers'.",
            inputs=[sockets.file_of(folders.CONTROLNETS, "control_net_name", "SparseCtrl files")],
            outputs=[io.ControlNet.Output("CONTROL_NET", tooltip="For Apply SparseCtrl.")],
        )

    @classmethod
    def run(cls, control_net_name: str) -> SparseControl:
        return SparseControl(load_sparse_ctrl(folders.full_path(folders.CONTROLNETS, control_net_name)))


class ApplySparseCtrl(Node):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AnimateDiffApplySparseCtrl",
            display_name="Apply SparseCtrl",
            category=CATEGORY,
            description="Guides a clip by pictures or sketches of some of its frames.",
            search_aliases=["keyframe interpolation", "image to video"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The positive prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                io.ControlNet.Input("control_net", tooltip="From Load SparseCtrl Model."),
                io.Image.Input(
                    "image", tooltip="One picture or sketch for each of indexes; the last one serves the rest."
                ),
                io.String.Input(
                    "indexes",
                    default="0",
                    tooltip="The frames that they are of, such as 0, 8, -1: counted from 0, negative ones from the end.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How strongly they guide: 0 not at all; 1 is usual.",
                ),
                sockets.percent("start_percent", "From where in the sampling schedule on they guide."),
                sockets.percent("end_percent", "Up to where in the sampling schedule they guide.", default=1.0),
                io.Vae.Input("vae", optional=True, tooltip="Of the checkpoint. Needed by the RGB model."),
                io.String.Input(
                    "strengths",
                    default="",
                    optional=True,
                    tooltip="Pairs of percent: strength over the sampling run, such as 0.0: 1.0, 0.5: 0.3. Empty: constant.",
                ),
                io.Combo.Input(
                    "interpolation",
                    options=[HOLD, LINEAR],
                    default=HOLD,
                    optional=True,
                    tooltip="Between two pairs: the strength of the earlier one (hold) or a straight line (linear).",
                ),
                sockets.Multival.Input(
                    "strength_multival",
                    optional=True,
                    tooltip="Multiplies strength: one number for each frame, or masks.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("guided_positive", "positive", tooltip="For positive of KSampler."),
                io.Conditioning.Output("guided_negative", "negative", tooltip="For negative of KSampler."),
            ],
        )

    @classmethod
    def run(
        cls,
        positive,
        negative,
        control_net,
        image,
        indexes: str,
        strength: float,
        start_percent: float,
        end_percent: float,
        vae=None,
        strengths: str = "",
        interpolation: str = HOLD,
        strength_multival: Multival = 1.0,
    ) -> io.NodeOutput:
        if not isinstance(control_net, SparseControl):
            raise ValueError(
                "control_net of Apply SparseCtrl is no SparseCtrl. Connect Load SparseCtrl Model; apply a plain ControlNet with "
                "Apply ControlNet."
            )
        frames = parsed(indexes)
        if len(image) > len(frames):
            raise ValueError(
                f"image has {len(image)} pictures, but indexes of Apply SparseCtrl names {len(frames)} frames. Name a frame for "
                "each picture, such as 0, 8, -1."
            )
        check_vae(vae, control_net.network.model)
        schedule = strength_schedule("strengths", strengths, interpolation) if strengths.strip() else None
        number, mask = (1.0, strength_multival) if hasattr(strength_multival, "shape") else (strength_multival, None)
        control = control_net.for_frames(frames, VaryingStrength(float(number), schedule, mask))
        control.set_cond_hint(image.movedim(-1, 1), strength, (start_percent, end_percent), vae)
        return io.NodeOutput(*_controlled((positive, negative), control))


def parsed(indexes: str) -> list[int]:
    """Raises ValueError for what are no whole numbers with commas between them."""
    words = [word for word in re.split(r"[\s,;]+", indexes.strip()) if word]
    if not words or len(words) > MOST_NUMBERS or not all(re.fullmatch(r"[-+]?\d{1,9}", word) for word in words):
        raise ValueError(
            f"indexes of Apply SparseCtrl is '{indexes[:40]}', but has to name frames by whole numbers with commas between them, such "
            "as 0, 8, -1."
        )
    return [int(word) for word in words]


def _controlled(conditionings: tuple, control: SparseControl) -> list:
    """Conditionings with ``control`` behind the ControlNets that they have; those with the same chain share a copy."""
    copies: dict[int, SparseControl] = {}

    def behind(previous) -> SparseControl:
        if id(previous) not in copies:
            copies[id(previous)] = control.copy().set_previous_controlnet(previous)
        return copies[id(previous)]

    return [
        [
            [text, {**options, "control": behind(options.get("control")), "control_apply_to_uncond": False}]
            for text, options in conditioning
        ]
        for conditioning in conditionings
    ]


NODES = [LoadSparseCtrl, ApplySparseCtrl]
