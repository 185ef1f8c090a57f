"""What a file is that is no motion model, told by its tensor names, and where it belongs."""

import re
from collections.abc import Iterable

LORA_BIAS = "LoRA with trained biases (peft's option lora_bias)"
IN_WHOLE_MODEL = "LoRA inside a whole model"
# How the files are named that hold a change of a network's layers instead of layers: what is in their tensors' names, and
# what that is called. First match wins: several methods have tensors with the names of plain LoRA beside their own.
METHODS = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"\.base_layer\.weight$", IN_WHOLE_MODEL),
        (r"\.base_layer\.bias$", "LoRA with trained biases (peft's option bias)"),
        (r"\.(ia3_l|on_input)\b", "IA3"),
        (r"\.boft_[Rs]\b", "BOFT"),
        (r"\.oft_(R|r|blocks)\b", "OFT or BOFT"),
        (r"\.[ab][12]\.weight$", "GLoRA"),
        (r"\bvera_(lambda_[bd]|[AB])\b", "VeRA"),
        (r"\.lora_E\b", "AdaLoRA"),
        (r"\.lora_diag\b", "KaSA"),
        (r"\.(lambda_layer|[pq]_layer\.weight)$", "T-LoRA"),
        (
            r"\.(hra_u|fourierft_|vblora_|randlora_|shira_|c3a_|road_|delora_|gralora_|waveft_|miss_block|ln_tuning_)",
            "a method of peft other than LoRA",
        ),
        (r"\.(dora_scale|lora_magnitude_vector)\b", "DoRA"),
        (r"\.lora_B\.([^.]+\.)?bias$", LORA_BIAS),
        (r"\.hada_[wt]", "LoHa"),
        (r"\.lokr_[wt]", "LoKr"),
        (r"\.[wb]_norm$", "differences of norms"),
        (r"\.diff_b$", "full differences with biases"),
        (r"\.diff$", "full differences"),
        (r"_lora\.|\.lora[_.]|lora_(up|down|A|B)\b", "LoRA"),
    )
)
ANY_METHOD = re.compile("|".join(pattern.pattern for pattern, _ in METHODS))
MOTION = re.compile(r"(motion_modules|temporal_attentions|temporal_transformer(?!_blocks))")
CONTROL = re.compile(
    r"(controlnet_|control_model\.|input_hint_block|zero_convs|middle_block_out|conditioning_embedding|adapter\.body"
    r"|^body\.\d+\.(in_conv|block\d|resnets)\.)"
)

# Pattern searched in the tensor names, what the file is, and what to do with it. First match wins.
KINDS = (
    (r"(image_proj|ip_adapter)", "an IPAdapter", "Put it in models/ipadapter and load it with an IPAdapter node."),
    (
        r"(^|\.)(time_stack|time_mixer|temporal_transformer_blocks|temp_convs|temp_attentions)\.",
        "a checkpoint of another video model (such as SVD)",
        "Put it in models/checkpoints; AnimateDiff does not use it.",
    ),
    (
        r"^(first_stage_model|cond_stage_model|conditioner|model\.diffusion_model)\.",
        "a whole checkpoint",
        "Put it in models/checkpoints and load it with Load Checkpoint.",
    ),
    (
        r"^(input_blocks|down_blocks|unet\.down_blocks)\.\d+\.",
        "a UNet without motion modules",
        "Put it in models/diffusion_models and load it with Load Diffusion Model.",
    ),
    (r"^(encoder|decoder)\.(conv_in|mid|up|down)", "a VAE", "Put it in models/vae and load it with Load VAE."),
    (
        r"(^|\.)(text|vision)_model\.|^((visual\.)?transformer|encoder)\.(resblocks|block)\.",
        "a text or image encoder",
        "Put it in models/text_encoders (or models/clip_vision) and load it with the matching node.",
    ),
    (
        r"^(emb_params|string_to_param\..*|clip_[lg]|\*|<.*>)$",
        "a textual inversion embedding",
        "Put it in models/embeddings and write embedding:NAME in the prompt.",
    ),
    (
        r"(^model\.\d+\.sub\.|RDB\d|\.rdb\d|^conv_first\.|^body\.\d+\.)",
        "an upscale model",
        "Put it in models/upscale_models and load it with Load Upscale Model.",
    ),
    (
        r"(pose_encoder|encoder_down_conv_blocks)",
        "the pose encoder of CameraCtrl without its other layers",
        "Use a whole file, such as CameraCtrl_pruned.safetensors, with AnimateDiff: Load Model with CameraCtrl.",
    ),
    (
        r"^(motion_(down|up)|reference_modules_(down|mid|up))\.",
        "a part of HelloMeme that is no motion model",
        "Only HelloMeme's own nodes use it. Its motion models are hm_animatediff, hm3_animatediff and hm4_animatediff.",
    ),
)


def method_of_change(keys: Iterable[str]) -> str | None:
    """What the change of layers that a file with these names holds is called; None if it holds no change."""
    changing = [key for key in keys if ANY_METHOD.search(key)]
    return next((name for pattern, name in METHODS if any(pattern.search(key) for key in changing)), None)


def is_motion_lora(keys: Iterable[str]) -> bool:
    """Whether the names are those of a LoRA (or of another change of layers) with layers of a motion model."""
    return any(ANY_METHOD.search(key) and MOTION.search(key) for key in keys)


def what_is_it(keys: Iterable[str]) -> str | None:
    """None if the names are those of a motion model, otherwise what the file is and where it belongs."""
    keys = list(keys)
    motion = any(MOTION.search(key) for key in keys)
    if is_motion_lora(keys):
        return "It is a MotionLoRA: use Load AnimateDiff LoRA (models/animatediff_motion_lora)."
    if any(ANY_METHOD.search(key) for key in keys):
        return (
            "It is an ordinary LoRA (the AnimateDiff v3 domain adapter is one too): put it in models/loras and load "
            "it with Load LoRA or Load Domain Adapter, between the checkpoint and the AnimateDiff nodes."
        )
    if any(CONTROL.search(key) for key in keys):
        kind = "a SparseCtrl (a ControlNet with motion modules)" if motion else "a ControlNet"
        loader = "Load SparseCtrl Model" if motion else "a Load ControlNet node"
        return f"It is {kind}: put it in models/controlnet and load it with {loader}."
    if any(".qkv_merge." in key for key in keys):
        return "It is CameraCtrl: choose it for camera_ctrl of AnimateDiff: Load Model with CameraCtrl, beside a motion model."
    if any(key.endswith(".cc_projection.weight") for key in keys):
        return "It is MotionCtrl's camera: choose it for motionctrl of AnimateDiff: Load Model with MotionCtrl, beside a motion model."
    if motion:
        return None
    for pattern, kind, advice in KINDS:
        if any(re.search(pattern, key) for key in keys):
            return f"It is {kind}. {advice}"
    return f"Its contents are not known (first tensors: {', '.join(keys[:3])}). Use another file."
