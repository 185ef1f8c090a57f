"""Training in the graph: MotionLoRAs, domain adapters, motion modules."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from comfy_api.latest import io

from ..host import training as host
from ..host.schema import FIXED_SEED, nothing, schema
from ..lora.motion_lora import AppliedMotionLora
from ..motion_models.layouts import VERSIONS
from ..sampling.schedules import beta_schedules
from ..training.command import written_instead
from ..training.domain_adapter import train_domain_adapter
from ..training.motion_lora import train_motion_lora
from ..training.motion_module import train_motion_module
from ..training.objectives import OBJECTIVES
from ..training.optimizers import OPTIMIZERS
from ..training.place import here
from ..training.settings import COSINE, LEARNING_RATE_SCHEDULES, TrainingFailed, TrainingSettings
from . import sockets
from .base import Node
from .values import above, at_least

CATEGORY = "AnimateDiff/training"
PRECISIONS = ["auto", "fp32", "bf16", "fp16"]


def data_inputs(model: str) -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip=model),
        io.Latent.Input(
            "latents",
            tooltip="The training clips: a list of latents, one per clip (a folder of videos through VAE Encode). One long clip works too.",
        ),
        io.Conditioning.Input("positive", tooltip="The caption of each clip, in the same order; or one for all."),
        io.Conditioning.Input(
            "negative", tooltip="The empty text: takes the caption's place as often as caption_dropout says."
        ),
    ]


def loop_inputs(
    batch: int, learning_rate: float, steps: int, weight_decay: float, schedule: str = "constant"
) -> list[io.Input]:
    """The inputs that all training nodes share, with the defaults of each."""
    return [
        io.Int.Input(
            "steps",
            default=steps,
            min=1,
            max=1_000_000,
            tooltip="How often the weights are changed: some hundred to a few thousand times for a LoRA, far more for a motion module.",
        ),
        io.Int.Input(
            "batch",
            default=batch,
            min=1,
            max=4096,
            tooltip="How many clips (of a domain adapter: frames) each step takes. More is steadier, in more memory and time.",
        ),
        io.Float.Input(
            "learning_rate",
            default=learning_rate,
            min=1e-7,
            max=1.0,
            step=1e-7,
            tooltip="How far each step goes. With AdamW 0.001 to 0.005 for a MotionLoRA, 0.0001 for a domain adapter or a motion module. "
            "Lower it if the loss becomes NaN or clips break up.",
        ),
        io.Combo.Input(
            "learning_rate_schedule",
            options=list(LEARNING_RATE_SCHEDULES),
            default=schedule,
            tooltip="cosine: the learning rate falls along half a cosine, to a hundredth in the last step.",
        ),
        io.Combo.Input(
            "optimizer",
            options=list(OPTIMIZERS),
            default="AdamW",
            tooltip="Lion: a third of AdamW's learning rate. Prodigy finds it: set learning_rate to 1. SGD: about 1. AdamW 8-bit takes "
            "a quarter of the optimiser's memory. The last four need a Python package each, which is told if it is missing.",
        ),
        io.Float.Input(
            "weight_decay",
            default=weight_decay,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip="In each step weights shrink by learning_rate × weight_decay of themselves, with every optimizer. 0.01 is usual.",
        ),
        io.Float.Input(
            "caption_dropout",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="How often a clip is shown with the negative text instead of its caption. Guidance (cfg) needs some: 0.1 is usual.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            tooltip="Decides which clips and what noise each step gets. With another seed the next run trains again.",
            **FIXED_SEED,
        ),
        io.Combo.Input(
            "precision",
            options=PRECISIONS,
            default="auto",
            tooltip="What the frozen UNet computes in. auto: bf16 on graphics cards that have it, else fp32.",
        ),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=True,
            tooltip="Needs far less memory and about a quarter more time.",
        ),
        io.Int.Input(
            "preview_every",
            default=0,
            min=0,
            max=1_000_000,
            tooltip="Draw a small preview every so many steps. 0: never.",
        ),
    ]


def options_input() -> io.Input:
    return sockets.TrainingOptions.Input(
        "options",
        optional=True,
        tooltip="Training Options, Training Checkpoints, Training Validation: warm-up, averages, saving on the way, going on, …",
    )


def frames_input() -> io.Input:
    return io.Int.Input(
        "frames",
        default=16,
        min=2,
        max=1024,
        tooltip="Frames of each training clip; of longer ones a random stretch is taken.",
    )


def lora_inputs(rank: int, alpha: float) -> list[io.Input]:
    return [
        io.Int.Input(
            "rank",
            default=rank,
            min=1,
            max=512,
            tooltip="Size of the LoRA: higher learns more detail, and more look. 4 to 64 are usual.",
        ),
        io.Float.Input(
            "alpha",
            default=alpha,
            min=0.01,
            max=1024.0,
            step=0.01,
            tooltip="The LoRA acts with strength alpha / rank. Mostly as large as rank, or twice as large.",
        ),
    ]


def objective_input() -> io.Input:
    return io.Combo.Input(
        "loss",
        options=list(OBJECTIVES),
        default="epsilon",
        tooltip="appearance-debiased learns the motion and less of the look of the clips: for very few clips.",
    )


def noise_level_inputs(end: float = 1.0) -> list[io.Input]:
    return [
        sockets.percent(
            "start_percent",
            "Noise levels to train on, as places in the sampling schedule: from here (0: pure noise) …",
            optional=True,
        ),
        sockets.percent(
            "end_percent",
            "… to here (1: no noise). Motion is decided where noise is high: 0 to 0.25 learns it soonest, and least of the look.",
            default=end,
            optional=True,
        ),
    ]


def from_pure_noise_input(default: bool, why: str) -> io.Input:
    return io.Boolean.Input(
        "from_pure_noise",
        default=default,
        optional=True,
        tooltip=f"Train on what sampling meets: at the highest noise level nothing is left of the clip, {why}",
    )


LOOP_OUTPUTS = [
    sockets.LossMap.Output("loss_map"),
    io.Int.Output("steps_done", tooltip="Steps that were trained; fewer than asked for if training was stopped."),
]


def settings_of(values: dict) -> TrainingSettings:
    """TrainingSettings from a node's inputs; takes those that it uses out of ``values``."""
    names = (
        "steps",
        "batch",
        "learning_rate",
        "learning_rate_schedule",
        "optimizer",
        "weight_decay",
        "caption_dropout",
    )
    names += ("seed", "precision", "preview_every")
    settings = {name: values.pop(name) for name in names}
    settings["checkpointing"] = values.pop("gradient_checkpointing")
    settings["objective"] = values.pop("loss", "epsilon")
    settings["frames"] = values.pop("frames", 1)
    # prompts of earlier versions do not have these
    later = ("start_percent", "end_percent", "noise_pairs", "options", "from_pure_noise")
    optional = {name: values.pop(name, None) for name in later}
    settings |= {name: value for name, value in optional.items() if value is not None}
    return TrainingSettings(**settings)


# Widgets beyond whose bounds nothing is learned.
BOUNDS = {
    "frames": partial(at_least, least=2),
    "alpha": partial(above, bound=0),
    "learning_rate": partial(above, bound=0),
    "weight_decay": partial(at_least, least=0),
}


def only_lists(lists: tuple[str, ...], inputs: dict) -> dict:
    """``inputs``, each of which the host hands over as a list, without the lists but for those named in ``lists``."""
    many = [name for name, value in inputs.items() if name not in lists and len(value or ()) > 1]
    if many:
        raise TrainingFailed(
            f"The input {many[0]} got a list of {len(inputs[many[0]])} values, but takes one: only {' and '.join(lists)} can "
            "be lists. Connect a single value."
        )
    return {name: value if name in lists else (value[0] if value else None) for name, value in inputs.items()}


class TrainingNode(Node):
    """A node that trains. Clips and captions come as lists, so the host hands every input over as a list."""

    # Stopping a training gives what was trained so far. The host would hand that out again when the same graph is
    # queued once more; counting the stops makes it train again. Counted by node type: not every release tells
    # fingerprint_inputs which node it is asked for, and the host calls clones of the class.
    stops: ClassVar[Counter] = Counter()

    @classmethod
    def train(cls, **inputs) -> tuple:
        """What the node hands on, of its inputs without the lists; those of the loop are in ``settings``."""
        raise NotImplementedError

    @classmethod
    def run(cls, **inputs) -> io.NodeOutput:
        inputs = cls.single(inputs)
        settings = settings_of(inputs)
        if written_instead(settings.options.command, cls.hidden):
            cls.stops[cls.define_schema().node_id] += 1  # the graph may be another the next time, behind this node
            return nothing(len(cls.define_schema().outputs))
        return io.NodeOutput(*cls.train(settings=settings, **inputs))

    @classmethod
    def fingerprint_inputs(cls, **_):
        return cls.stops[cls.define_schema().node_id]

    @classmethod
    def single(cls, inputs: dict) -> dict:
        """``inputs`` without the lists, but for those that are lists of clips."""
        found = only_lists(("latents", "positive"), inputs)
        for name, check in BOUNDS.items():
            if found.get(name) is not None:
                check(name, found[name])
        return found

    @classmethod
    def trained(cls, train: Callable, **inputs) -> tuple:
        """What ``train`` gives, the losses and the steps. It is called where gradients exist: the host runs nodes in inference mode."""
        try:
            with torch.inference_mode(False), torch.enable_grad():
                *result, record = train(**inputs, node_id=cls.hidden.unique_id)
        finally:
            host.collect_garbage()
        if record.ended_early and not here().commanded:  # by command every graph is run once
            cls.stops[cls.define_schema().node_id] += 1
        return (*result, record.loss_map, record.steps)


def training_schema(
    inputs: list[io.Input], result: io.Output, later: tuple[io.Input, ...] = (), **texts: str
) -> io.Schema:
    """That of a node which trains; ``result`` is what it hands on first, ``later`` inputs came when there were workflow files."""
    return schema(
        category=CATEGORY,
        is_input_list=True,
        inputs=[*inputs, options_input(), *later],
        outputs=[result, *LOOP_OUTPUTS],
        hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        **texts,
    )


class TrainMotionLoRA(TrainingNode):
    @classmethod
    def define_schema(cls):
        return training_schema(
            node_id="AnimateDiffTrainMotionLoRA",
            display_name="Train MotionLoRA",
            description="Teaches a motion model one kind of motion from 20 to 50 clips. The MODEL stays as it is.",
            inputs=[
                *data_inputs("A model with one motion model applied (Use Evolved Sampling)."),
                frames_input(),
                *lora_inputs(rank=16, alpha=32),
                *loop_inputs(batch=4, learning_rate=5e-3, steps=400, weight_decay=1e-2, schedule=COSINE),
                objective_input(),
                *noise_level_inputs(end=0.25),
                io.Boolean.Input(
                    "noise_pairs",
                    default=False,
                    optional=True,
                    tooltip="Show each clip twice, with a noise and with its opposite; batch must be even. Meant to let what "
                    "the noise alone suggests cancel out of a step.",
                ),
                sockets.MotionLora.Input("resume", optional=True, tooltip="A MotionLoRA to train on. Its rank wins."),
            ],
            later=(
                from_pure_noise_input(
                    True,
                    "so that the LoRA, not the noise, decides what moves where. A motion is learned in a fraction of the steps.",
                ),
            ),
            result=sockets.MotionLora.Output("MOTION_LORA"),
        )

    @classmethod
    def train(cls, resume=None, **inputs) -> tuple:
        if resume is not None and len(resume) != 1:
            raise TrainingFailed(f"resume got {len(resume)} MotionLoRAs, but training goes on from one. Connect one.")
        lora, *told = cls.trained(train_motion_lora, **inputs, resume=resume[0].lora if resume else None)
        return (AppliedMotionLora(lora),), *told


class TrainDomainAdapter(TrainingNode):
    @classmethod
    def define_schema(cls):
        return training_schema(
            node_id="AnimateDiffTrainDomainAdapter",
            display_name="Train Domain Adapter",
            description="Learns the look of the training videos from single frames, so that a motion module need not. "
            "Left out, or scaled down, when sampling.",
            inputs=[
                *data_inputs("The model whose motion module will be trained. Motion models on it take no part."),
                *lora_inputs(rank=64, alpha=64),
                *loop_inputs(batch=8, learning_rate=1e-4, steps=1000, weight_decay=1e-2),
                *noise_level_inputs(),
            ],
            result=sockets.LoraModel.Output("lora"),
        )

    @classmethod
    def train(cls, **inputs) -> tuple:
        return cls.trained(train_domain_adapter, **inputs)


class TrainMotionModule(TrainingNode):
    @classmethod
    def define_schema(cls):
        return training_schema(
            node_id="AnimateDiffTrainMotionModule",
            display_name="Train Motion Module",
            description="Trains a motion module on video clips, from scratch or on from one. Everything else is frozen.",
            inputs=[
                *data_inputs("A model with the domain adapter on. Motion models on it take no part."),
                frames_input(),
                io.Combo.Input(
                    "layout",
                    options=list(VERSIONS),
                    default="v3",
                    tooltip="v1: 24 frames, the UNet's group norms joint over all frames of a clip. v2: 32 frames and a module in the mid "
                    "block. v3: 32 frames. With start, its layout wins.",
                ),
                io.Combo.Input(
                    "beta_schedule",
                    options=beta_schedules.OPTIONS,
                    default=beta_schedules.AUTOSELECT,
                    tooltip="Noise schedule to train on; sample with the same. autoselect: the one that autoselect samples it with.",
                ),
                *loop_inputs(batch=1, learning_rate=1e-4, steps=10000, weight_decay=1e-2),
                *noise_level_inputs(),
                sockets.MotionModelSocket.Input("start", optional=True, tooltip="A motion model to go on from."),
            ],
            later=(
                from_pure_noise_input(
                    False,
                    "and errors at high noise count as much as those at low noise. Best for the last third of a training: fewer "
                    "clips then turn on their way.",
                ),
            ),
            result=sockets.MotionModelSocket.Output("MOTION_MODEL"),
        )

    @classmethod
    def train(cls, layout: str, **inputs) -> tuple:
        return cls.trained(train_motion_module, **inputs, version=layout)


NODES = [TrainMotionLoRA, TrainDomainAdapter, TrainMotionModule]
