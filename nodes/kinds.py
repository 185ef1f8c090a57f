"""What goes over the sockets, for messages about inputs that are empty or hold something else."""

# Type of a socket -> what gives it, as the end of a sentence that begins with "Connect".
SOURCES = {
    "MOTION_MODEL_ADE": "Load AnimateDiff Model",
    "M_MODELS": "Apply AnimateDiff Model",
    "MOTION_LORA": "Load AnimateDiff LoRA",
    "MULTIVAL": "Multival",
    "AD_KEYFRAMES": "AnimateDiff Keyframe",
    "PER_BLOCK": "AD Per Block",
    "AD_BLOCK": "AD Block",
    "AD_SETTINGS": "AnimateDiff Settings",
    "PE_ADJUST": "Adjust PE (Sweetspot)",
    "WEIGHT_ADJUST": "Adjust Weight (All, Mult)",
    "CONTEXT_OPTIONS": "Context Options: Standard Static",
    "VIEW_OPTS": "View Options: Standard Static",
    "SAMPLE_SETTINGS": "Sample Settings",
    "NOISE_LAYERS": "Noise Layer (Add)",
    "ITERATION_OPTS": "Iteration Options: Default",
    "ANCESTRAL_OPTS": "Ancestral Options",
    "CUSTOM_CFG": "Custom CFG",
    "CFG_EXTRAS": "CFG Extras: PAG",
    "SIGMA_SCHEDULE": "Create Sigma Schedule",
    "FLOATS": "Value Scheduling",
    "VALUES_REPLACE": "Add Values Replace",
    "CAMERACTRL_POSES": "Create CameraCtrl Poses",
    "LORA_MODEL": "Train Domain Adapter, or ComfyUI's Train LoRA",
    # the host's
    "MODEL": "a model, such as that of Load Checkpoint",
    "CLIP": "a CLIP, such as that of Load Checkpoint",
    "CLIP_VISION": "Load CLIP Vision",
    "CONDITIONING": "CLIP Text Encode (Prompt), or Prompt Scheduling",
    "LATENT": "latents, such as those of Empty Latent Image or VAE Encode",
    "IMAGE": "pictures, such as those of VAE Decode or Load Image",
    "MASK": "a mask, such as that of Load Image (as Mask)",
    "SIGMAS": "BasicScheduler, or another node that gives sigmas",
    "INT": "a whole number, or disconnect it and type one",
    "FLOAT": "a number, or disconnect it and type one",
    "STRING": "a text, or disconnect it and type one",
    "BOOLEAN": "yes or no (BOOLEAN), or disconnect it and choose one",
    "COMBO": "one of its choices, or disconnect it and choose one",
}


def connect(io_type: str) -> str:
    """What to connect to a socket of the type ``io_type``."""
    return SOURCES.get(str(io_type), f"a node that gives {io_type}")
