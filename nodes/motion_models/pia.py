"""PIA: motion models that animate a picture."""

from comfy_api.latest import io

from ...host import folders
from ...host.patcher import parts, with_parts
from ...host.schema import schema
from ...motion_models.adapters.image_inputs import KINDS, load_image_input
from ...motion_models.files.adjust import Adjustments
from ...motion_models.layouts import PIA
from ...sampling.adapters.likeness import PRESETS, PiaInput
from ...sampling.adapters.pia import PIA_INPUT, Pia
from ...sampling.motion.applied import MotionModels
from ...sampling.strength.multival import Multival
from .. import sockets
from ..base import MARK_2, node
from ..file_nodes import FileNode, read_once
from .apply import FURTHER, MOTION_MODEL, OUTPUTS, RANGE, STRENGTHS, applied
from .keyframes import keyframe_node

CATEGORY = "AnimateDiff/PIA"
PiaInputSocket = sockets.Socket("PIA_INPUT", "For pia_input of Apply AnimateDiff-PIA Model, or of a PIA keyframe.")


def _apply(motion_model, image, vae, pia_input: PiaInput | None = None, **shared) -> MotionModels:
    network = parts(motion_model).get(KINDS[PIA])
    if network is None:
        raise ValueError(
            f"The motion model '{motion_model.model.spec.name}' is no PIA model, so it takes no picture this way. Load a PIA file, "
            "such as pia.ckpt, with AnimateDiff: Load Model, or give this one the image input of such a file with Inject PIA into "
            "AnimateDiff Model; or apply it with AnimateDiff: Apply Model."
        )
    return applied(motion_model, adapters=(Pia(network, image, vae, pia_input),), **shared)


class InjectPIAIntoAnimateDiffModel(FileNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="ADE_InjectPIAIntoAnimateDiffModel",
            display_name="Inject PIA into AnimateDiff Model",
            category=CATEGORY,
            description="Gives a motion model the image input of a PIA file: an experiment, not trained so.",
            search_aliases=[f"\U0001f9eaInject PIA into AnimateDiff Model {MARK_2}"],
            inputs=[
                sockets.motion_model_name(),
                MOTION_MODEL,
                sockets.Settings.Input("ad_settings", optional=True, tooltip="No effect: it is about motion modules."),
            ],
            outputs=[sockets.MotionModelSocket.Output("MOTION_MODEL")],
        )

    @classmethod
    def run(cls, model_name: str, motion_model, ad_settings: Adjustments | None = None):
        path = folders.full_path(folders.MOTION_MODELS, model_name)
        network = read_once(KINDS[PIA], path, lambda: load_image_input(path, PIA))
        return with_parts(motion_model, {KINDS[PIA]: network})


def _of_preset(
    preset: str, batch_index: int, mult_multival: Multival | None = None, print_values: bool = False
) -> PiaInput:
    return PiaInput(mult_multival, preset, batch_index, print_values)


NODES = [
    node(
        _apply,
        node_id="ADE_ApplyAnimateDiffModelWithPIA",
        display_name="Apply AnimateDiff-PIA Model",
        aliases=(f"Apply AnimateDiff-PIA Model {MARK_2}", "image to video"),
        category=CATEGORY,
        description="Applies a PIA motion model: the clip animates a picture.",
        inputs=[
            MOTION_MODEL,
            io.Image.Input(
                "image",
                tooltip="The picture. Of several, each is for one frame; the last one serves those that follow.",
            ),
            io.Vae.Input("vae", tooltip="The VAE of the checkpoint that samples the clip."),
            *RANGE,
            PiaInputSocket.Input(
                PIA_INPUT, optional=True, tooltip="How much each frame shall be like the picture. Default 1 for all."
            ),
            *STRENGTHS,
            *FURTHER,
        ],
        outputs=OUTPUTS,
    ),
    node(
        lambda multival: PiaInput(multival),
        node_id="ADE_InputPIA_Multival",
        display_name="PIA Input (Multival)",
        old_name="PIA Input [Multival]",
        category=CATEGORY,
        description="How much frames shall be like PIA's picture: a number, one for each frame, or masks.",
        inputs=[sockets.Multival.Input("multival", tooltip="1: as alike as can be; lower: more motion.")],
        outputs=[PiaInputSocket.Output("PIA_INPUT")],
    ),
    node(
        _of_preset,
        node_id="ADE_InputPIA_PaperPresets",
        display_name="PIA Input (Paper Presets)",
        old_name="PIA Input [Paper Presets]",
        category=CATEGORY,
        description="How much frames shall be like PIA's picture, by the curves that its authors published.",
        inputs=[
            io.Combo.Input(
                "preset",
                options=list(PRESETS),
                tooltip="Loop ends where it begins. Style Transfer is for a checkpoint of another style than the picture.",
            ),
            io.Int.Input(
                "batch_index",
                default=0,
                min=-sockets.LARGEST,
                max=sockets.LARGEST,
                step=1,
                tooltip="The frame that the picture is of, counted from 0; negative: from the end.",
            ),
            sockets.Multival.Input("mult_multival", optional=True, tooltip="Multiplies the values of the preset."),
            io.Boolean.Input(
                "print_values", default=False, optional=True, tooltip="Writes the values of each frame to the log."
            ),
        ],
        outputs=[PiaInputSocket.Output("PIA_INPUT")],
    ),
    keyframe_node(
        node_id="ADE_PIA_AnimateDiffKeyframe",
        display_name="PIA AnimateDiff Keyframe",
        old_name="PIA AnimateDiff Keyframe",
        category=CATEGORY,
        description="Changes likeness to PIA's picture, scale and effect at a place in the sampling schedule.",
        own=PiaInputSocket.Input(PIA_INPUT, optional=True, tooltip="Multiplies pia_input of the Apply node."),
    ),
    InjectPIAIntoAnimateDiffModel,
]
