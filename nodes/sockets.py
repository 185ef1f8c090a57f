"""Socket types and inputs that several nodes share. Names, order and types are those that workflow files rely on."""

from functools import partial

from comfy_api.latest import io

from ..host import folders
from ..sampling.schedules import beta_schedules
from ..sampling.schedules.interpolation import METHODS


class Socket:
    """A type of socket. Its outputs say what they are ``for``, unless they are given a tooltip of their own."""

    def __init__(self, io_type: str, use: str):
        kind = io.Custom(io_type)
        self.Input = kind.Input
        self.Output = partial(kind.Output, tooltip=use)


MotionModelSocket = Socket("MOTION_MODEL_ADE", "The motion model, for an Apply node, merging or saving.")
MotionModelsSocket = Socket(
    "M_MODELS",
    "The applied motion model, with those before it: for Use Evolved Sampling, or prev_m_models of another Apply node.",
)
MotionLora = Socket("MOTION_LORA", "MotionLoRAs, for motion_lora of an Apply node, or for Save MotionLoRA.")
Multival = Socket(
    "MULTIVAL", "The strength, for inputs that take a multival, such as scale_multival and effect_multival."
)
Floats = Socket("FLOATS", "A list of numbers, for inputs of the type FLOATS, such as those of Multival (Floats).")
Keyframes = Socket(
    "AD_KEYFRAMES", "Keyframes, for ad_keyframes of an Apply node, or prev_ad_keyframes of another keyframe."
)
PerBlock = Socket("PER_BLOCK", "For per_block of an Apply node, or per_block_replace of a keyframe.")
SigmaSchedule = Socket(
    "SIGMA_SCHEDULE", "The noise levels, for sigma_schedule of Sample Settings, or other Sigma Schedule nodes."
)
CustomCfg = Socket("CUSTOM_CFG", "For custom_cfg of Sample Settings, or prev_custom_cfg of another Custom CFG node.")
Settings = Socket("AD_SETTINGS", "Adjustments, for ad_settings of a node that loads a motion model.")
ContextOptions = Socket(
    "CONTEXT_OPTIONS", "For context_options of Use Evolved Sampling, or prev_context of other context options."
)
SampleSettings = Socket("SAMPLE_SETTINGS", "For sample_settings of Use Evolved Sampling.")
ImageInject = Socket(
    "IMAGE_INJECT", "For image_inject of Sample Settings, or prev_image_inject of another Image Injection."
)
TrainingOptions = Socket(
    "AD_TRAINING_OPTIONS", "For options of a training node, or prev_options of another node like this one."
)
MotionPath = Socket(
    "MOTION_PATH",
    "The path, for Follow Path, Draw Motion Path or Training Paths, or prev_path of another node that makes one.",
)
# The host's own types: its nodes for them (loss graph, LoRA saving and loading) work on what we return.
LossMap = Socket("LOSS_MAP", "The loss of each step, for ComfyUI's Plot Loss Graph.")
LoraModel = Socket("LORA_MODEL", "The LoRA, for Save Domain Adapter, or ComfyUI's Load LoRA Model.")

MODEL_OUTPUT = io.Model.Output("MODEL", tooltip="The MODEL for KSampler, or for a node that changes it further.")

MOTION_LORA = MotionLora.Input("motion_lora", optional=True, tooltip="MotionLoRAs to apply to the motion model.")
SCALE = Multival.Input(
    "scale_multival",
    optional=True,
    tooltip="Strength of motion: multiplies the temporal attention keys. 1, the default, is as trained.",
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


def interpolation() -> io.Combo.Input:
    return io.Combo.Input(
        "interpolation",
        options=list(METHODS),
        tooltip="The way between the two: linear is even, ease_in begins slowly, ease_out ends slowly, ease_in_out does both.",
    )


def model(tooltip: str) -> io.Input:
    return io.Model.Input("model", tooltip=tooltip)


BEHIND_EVOLVED = model("An animated MODEL, as Use Evolved Sampling makes it.")


class FileCombo(io.Combo.Input):
    """The files of the models folder ``key``. A node of the class ``FileNode`` runs again when the one that is chosen changes."""

    def __init__(self, name: str, key: str, **options):
        super().__init__(name, **options)
        self.key = key


def file_of(key: str, name: str, what: str) -> FileCombo:
    """The combo ``name`` of the files in a models folder. Made anew for each request, so that files added show up.

    ``what`` says in the plural what they are.
    """
    tooltip = f"A file in models/{key}. None there yet? Put {what} there, then press R."
    return FileCombo(name, key, options=folders.list_files(key), tooltip=tooltip)


def motion_model_name() -> io.Combo.Input:
    return file_of(folders.MOTION_MODELS, "model_name", "motion models")


def beta_schedule() -> io.Combo.Input:
    return io.Combo.Input(
        "beta_schedule",
        options=beta_schedules.OPTIONS,
        default=beta_schedules.AUTOSELECT,
        tooltip="Noise schedule. autoselect takes the one the motion model was trained with.",
    )
