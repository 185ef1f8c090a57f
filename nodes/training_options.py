"""What most trainings leave alone, as a chain of nodes in front of those that train."""

from dataclasses import replace

from comfy_api.latest import io

from ..host.told import Told
from ..sampling.paths.keys import PathError
from ..sampling.paths.path import MotionPath
from ..sampling.paths.words import Words, words_of
from ..training.settings import CheckpointSettings, CommandSettings, PathSettings, TrainingOptions, ValidationSettings
from . import sockets
from .base import node
from .training import CATEGORY, only_lists
from .values import at_least, at_most

MOST_WARMUP, MOST_ACCUMULATED, MOST_STEPS = 1_000_000, 4096, 1_000_000
MOST_GPUS, MOST_MACHINES = 64, 1024
MOST_RANK = 512  # as on the nodes that train
EMPTY = TrainingOptions()


def _previous() -> io.Input:
    return sockets.TrainingOptions.Input(
        "prev_options", optional=True, tooltip="Further options, of nodes like this one."
    )


def _learning(ranks: str, prev_options: TrainingOptions = EMPTY, **values) -> TrainingOptions:
    for name in ("warmup_steps", "ema", "min_snr_gamma", "noise_offset"):
        at_least(name, values[name], least=0)
    at_most("ema", values["ema"], 0.99999, "an average of 1 or more never leaves the first weights")
    return replace(prev_options, ranks=ranks_written(ranks), **values)


def _checkpoints(filename_prefix: str, prev_options: TrainingOptions = EMPTY, vae=None, **values) -> TrainingOptions:
    settings = CheckpointSettings(filename_prefix, clip=values.pop("sample"), vae=vae, **values)
    return replace(prev_options, checkpoints=settings)


def _validation(**inputs) -> TrainingOptions:
    found = only_lists(("latents", "positive"), inputs)
    validation = ValidationSettings(tuple(found["latents"]), tuple(found["positive"]), found["every"])
    return replace(found.get("prev_options") or EMPTY, validation=validation)


def _paths(**inputs) -> TrainingOptions:
    found = only_lists(("paths", "prompts"), inputs)
    noise, attention = found["noise"], found.get("attention") or 0.0
    at_least("noise", noise, 0)
    at_most("noise", noise, 1, "1 is the same coarse noise for all frames")
    at_least("attention", attention, 0)
    paths = PathSettings(tuple(found["paths"]), noise, attention)
    if attention:
        paths = replace(paths, words=_words(paths.paths, found.get("clip"), found.get("prompts") or []))
    return replace(found.get("prev_options") or EMPTY, paths=paths)


def _words(paths: tuple[MotionPath, ...], clip, prompts: list[str]) -> tuple[Words, ...]:
    """Of each clip, as far as lists tell how many there are. Raises PathError."""
    if clip is not None and not prompts:
        raise PathError(
            "Training Paths got clip but no prompts to look for words in. Connect the captions of the clips to prompts."
        )
    prompts = prompts or [""]
    many = max(len(paths), len(prompts))
    if len(paths) not in (1, many) or len(prompts) not in (1, many):
        raise PathError(
            f"Training Paths got {len(paths)} paths and {len(prompts)} prompts. Connect as many prompts as paths, or one for all."
        )
    return tuple(words_of(paths[i % len(paths)], clip, prompts[i % len(prompts)]) for i in range(many))


def _by_command(filename_prefix: str, prev_options: TrainingOptions = EMPTY, **values) -> TrainingOptions:
    for name, value in values.items():
        at_least(name, value, 1)
    return replace(prev_options, command=CommandSettings(filename_prefix, **values))


class WrongRanks(Told, ValueError):
    """A text that holds no ranks; the message says how to write them."""


def ranks_written(text: str) -> dict[str, int]:
    """``to_v: 32, to_q: 8`` as a dictionary. Raises WrongRanks."""
    ranks = {}
    for entry in filter(None, map(str.strip, text.replace("\n", ",").split(","))):
        part, _, rank = (word.strip() for word in entry.partition(":"))
        if not part or not rank.isdecimal() or int(rank) > MOST_RANK:
            raise WrongRanks(
                f"ranks of Training Options has '{entry}', but needs a part of a layer's name, a colon and a rank from 0 to "
                f"{MOST_RANK}, such as to_v: 32. Write several with commas between them."
            )
        ranks[part] = int(rank)
    return ranks


OUTPUTS = [sockets.TrainingOptions.Output("options")]
NODES = [
    node(
        _learning,
        node_id="AnimateDiffTrainingOptions",
        display_name="Training Options",
        category=CATEGORY,
        description="How training learns: warm-up, averaged weights, larger batches, weights of noise levels, ranks of layers.",
        aliases=("ema", "warmup", "gradient accumulation", "min-snr", "noise offset", "rslora"),
        inputs=[
            io.Int.Input(
                "warmup_steps",
                default=0,
                min=0,
                max=MOST_WARMUP,
                tooltip="The learning rate rises in a straight line over so many steps. 0: none.",
            ),
            io.Float.Input(
                "ema",
                default=0.0,
                min=0.0,
                max=0.99999,
                step=0.0001,
                round=0.00001,
                tooltip="Hand on an average of the weights in place of the last ones: smoother. 0.99 looks back about 100 "
                "steps, 0.999 about 1000; well below the steps of the training. 0: none.",
            ),
            io.Int.Input(
                "accumulate",
                default=1,
                min=1,
                max=MOST_ACCUMULATED,
                tooltip="Batches whose gradients are added up to one step: a larger batch in more time instead of memory.",
            ),
            io.Float.Input(
                "min_snr_gamma",
                default=0.0,
                min=0.0,
                max=100.0,
                step=0.1,
                tooltip="min-SNR-\u03b3: low noise, whose errors say little about the picture, counts less; 5 is the usual \u03b3. "
                "0: all noise levels count alike.",
            ),
            io.Float.Input(
                "noise_offset",
                default=0.0,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="Adds one number for each clip and channel to the noise, so that dark and bright clips are learned; "
                "0.05 to 0.1 are usual. 0: none.",
            ),
            io.Boolean.Input(
                "rslora",
                default=False,
                tooltip="LoRAs act with strength alpha / \u221arank in place of alpha / rank: high ranks learn more.",
            ),
            io.String.Input(
                "ranks",
                default="",
                tooltip="Ranks of some kinds of layers, by a part of their names: to_v: 32, to_q: 8. Rank 0 leaves a kind "
                "alone; the first that fits counts. Empty: all have the rank of the training node.",
            ),
            _previous(),
        ],
        outputs=OUTPUTS,
    ),
    node(
        _checkpoints,
        node_id="AnimateDiffTrainingCheckpoints",
        display_name="Training Checkpoints",
        category=CATEGORY,
        description=(
            "Saves what was trained every so many steps, with a sample, a log of the losses, and all that it takes to go on "
            "after a crash as if nothing had happened."
        ),
        aliases=("resume training", "save training state", "tensorboard", "loss log csv"),
        inputs=[
            io.String.Input(
                "filename_prefix",
                default="training",
                tooltip="Beginning of the names of the files, in the folder where the Save node of the same kind puts its own. A "
                "counter is added, nothing is overwritten. Subfolders are possible.",
            ),
            io.Int.Input("every", default=100, min=1, max=MOST_STEPS, tooltip="Steps from one to the next."),
            io.Int.Input(
                "keep", default=3, min=1, max=1000, tooltip="How many to keep: the newest. Older ones are removed."
            ),
            io.Boolean.Input(
                "go_on",
                default=False,
                tooltip="Go on from the newest checkpoint of this filename_prefix, if there is one. steps counts from the "
                "beginning: 1000 after a checkpoint of 600 trains 400 more.",
            ),
            io.Boolean.Input(
                "sample",
                default=True,
                tooltip="Save a small clip of the first caption with each, without guidance. As long as ten to twenty steps.",
            ),
            _previous(),
            io.Vae.Input(
                "vae",
                optional=True,
                tooltip="Decodes the samples. Without one they have the rough colours of previews.",
            ),
        ],
        outputs=OUTPUTS,
    ),
    node(
        _validation,
        node_id="AnimateDiffTrainingValidation",
        display_name="Training Validation",
        category=CATEGORY,
        description=(
            "Measures the loss on clips that are not trained on, always at the same noise. Where it rises while the loss of "
            "training falls, the clips are being memorised."
        ),
        aliases=("validation loss", "held-out"),
        is_input_list=True,
        inputs=[
            io.Latent.Input(
                "latents",
                tooltip="The held-out clips: a list of latents, one per clip.",
            ),
            io.Conditioning.Input("positive", tooltip="The caption of each, in the same order; or one for all."),
            io.Int.Input(
                "every",
                default=100,
                min=1,
                max=MOST_STEPS,
                tooltip="Steps from one measurement to the next. One takes as long as about one and a half steps of batch 1 for "
                "each clip.",
            ),
            _previous(),
        ],
        outputs=OUTPUTS,
    ),
    node(
        _paths,
        node_id="AnimateDiffTrainingPaths",
        display_name="Training Paths",
        category=CATEGORY,
        description=(
            "Draws the noise of each clip along the path of what moves in it, and can keep attention to its boxes, as Follow Path does in "
            "sampling: what is trained learns that things go there."
        ),
        aliases=("trajectory", "FreeTraj", "motion path"),
        is_input_list=True,
        inputs=[
            sockets.MotionPath.Input(
                "paths",
                tooltip="The path of each clip, in the same order, such as those of Motion Path from Clip; or one for all.",
            ),
            io.Float.Input(
                "noise",
                default=1.0,
                min=0.0,
                max=1.0,
                step=0.01,
                tooltip="How much of the coarse noise in boxes moves along. Sample with the same noise of Follow Path.",
            ),
            io.Float.Input(
                "attention",
                default=0.0,
                min=0.0,
                max=100.0,
                step=0.5,
                optional=True,
                tooltip=(
                    "How strongly attention keeps things in their boxes, as in Follow Path, whose default is 30; 0: not at all. It is "
                    "learned far sooner than noise alone, but clips of a batch are computed one by one."
                ),
            ),
            io.Clip.Input(
                "clip",
                optional=True,
                tooltip="The CLIP that reads the captions, as in Follow Path. Only with attention.",
            ),
            io.String.Input(
                "prompts",
                force_input=True,
                optional=True,
                tooltip="The caption of each clip, in the same order, or one for all, in which the words of paths are looked up. Only with "
                "clip.",
            ),
            _previous(),
        ],
        outputs=OUTPUTS,
    ),
    node(
        _by_command,
        node_id="AnimateDiffTrainingOnSeveralGPUs",
        display_name="Training on Several GPUs",
        category=CATEGORY,
        description=(
            "The training node does not train here: it writes the graph into ComfyUI's output folder and shows the command that "
            "trains it on several GPUs or machines, and runs the nodes behind it. Bypass this node to train here."
        ),
        aliases=("multi-gpu", "torchrun", "distributed training", "ddp", "fsdp", "export training", "command line"),
        inputs=[
            io.String.Input(
                "filename_prefix",
                default="training",
                tooltip="Beginning of the name of the file, in ComfyUI's output folder. A counter is added, nothing is "
                "overwritten. Subfolders are possible.",
            ),
            io.Int.Input(
                "gpus",
                default=2,
                min=1,
                max=MOST_GPUS,
                tooltip="GPUs in each machine. They share the batch of the training node, so it must be a multiple of all GPUs.",
            ),
            io.Int.Input(
                "machines", default=1, min=1, max=MOST_MACHINES, tooltip="Machines, with as many GPUs in each."
            ),
            _previous(),
        ],
        outputs=OUTPUTS,
    ),
]
