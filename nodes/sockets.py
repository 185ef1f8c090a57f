"""Socket types and inputs that several nodes share. Names, order and types are those that workflow files rely on."""

from comfy_api.latest import io

from ..host import folders
from ..sampling.schedules import beta_schedules

MotionModelSocket = io.Custom("MOTION_MODEL_ADE")
MotionModelsSocket = io.Custom("M_MODELS")
MotionLora = io.Custom("MOTION_LORA")
Multival = io.Custom("MULTIVAL")
Floats = io.Custom("FLOATS")
Keyframes = io.Custom("AD_KEYFRAMES")
PerBlock = io.Custom("PER_BLOCK")
SigmaSchedule = io.Custom("SIGMA_SCHEDULE")
CustomCfg = io.Custom("CUSTOM_CFG")
Settings = io.Custom("AD_SETTINGS")
ContextOptions = io.Custom("CONTEXT_OPTIONS")
SampleSettings = io.Custom("SAMPLE_SETTINGS")
ImageInject = io.Custom("IMAGE_INJECT")
TrainingOptions = io.Custom("AD_TRAINING_OPTIONS")
# The host's own types: its nodes for them (loss graph, LoRA saving and loading) work on what we return.
LossMap = io.Custom("LOSS_MAP")
LoraModel = io.Custom("LORA_MODEL")

MOTION_LORA = MotionLora.Input("motion_lora", optional=True, tooltip="MotionLoRAs to apply to the motion model.")
SCALE = Multival.Input(
    "scale_multival", optional=True, tooltip="Strength of motion: multiplies the temporal attention keys. Default 1."
)
EFFECT = Multival.Input(
    "effect_multival", optional=True, tooltip="How much of the motion model reaches the picture: 0 none, 1 all of it."
)
KEYFRAMES = Keyframes.Input("ad_keyframes", optional=True, tooltip="Changes of scale and effect during sampling.")
PER_BLOCK = PerBlock.Input("per_block", optional=True, tooltip="Scale and effect for single blocks of the UNet.")
SETTINGS = Settings.Input("ad_settings", optional=True, tooltip="Adjustments made to the motion model as it is loaded.")
CONTEXT_OPTIONS = ContextOptions.Input(
    "context_options", optional=True, tooltip="Sliding windows over clips longer than the motion model can handle."
)
SAMPLE_SETTINGS = SampleSettings.Input(
    "sample_settings", optional=True, tooltip="Noise, FreeInit, custom CFG and other sampling settings."
)


class OpenCombo(io.Combo.Input):
    """A combo that takes more than it offers; its node checks what it gets."""


class FloatOrMore(io.Float.Input):
    """A number, or a list of them: schedules, this pack's too, hand on lists over sockets for one number."""


class IntOrMore(io.Int.Input):
    """A whole number, or a list of them."""


LARGEST = 9007199254740991  # that a front end can hold exactly


def percent(name: str, tooltip: str, default: float = 0.0, **options) -> io.Input:
    """A place in the sampling schedule: 0 is pure noise, 1 the finished clip."""
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip, **options)


def guarantee_steps(least: int = 0, **options) -> io.Input:
    tooltip = "Kept for this many steps at least."
    return io.Int.Input("guarantee_steps", default=1, min=least, max=LARGEST, tooltip=tooltip, **options)


def file_of(key: str, name: str, what: str) -> io.Combo.Input:
    """The combo ``name`` of the files in a models folder. Made anew for each request, so that files added show up.

    ``what`` says in the plural what they are.
    """
    files = folders.list_files(key)
    tooltip = f"From models/{key}."
    if not files:
        tooltip = f"No {what} found. Put {what} into models/{key}, then press R."
    return io.Combo.Input(name, options=files, tooltip=tooltip)


def motion_model_name() -> io.Combo.Input:
    return file_of(folders.MOTION_MODELS, "model_name", "motion models")


def beta_schedule() -> io.Combo.Input:
    return io.Combo.Input(
        "beta_schedule",
        options=beta_schedules.OPTIONS,
        default=beta_schedules.AUTOSELECT,
        tooltip="Noise schedule. autoselect takes the one the motion model was trained with.",
    )
