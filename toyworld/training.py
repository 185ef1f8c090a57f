"""Making the toy world from seeds: the stages in order, each kept when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from . import motion, prompts, scenes, stills, text_encoder, videos, weights
from .live_training import refine_motion_module

MOTION_CLIPS = 360
# The motion module's training, each stretch a prompt of its own: what is trained is kept after each. The first leaves
# out low noise, whose losses are large and where the module has the least to learn. By the last the adapter is better:
# what the first one left of the watermark, the module had begun to learn.
MOTION_STRETCHES = (
    prompts.Stretch(prompts.FIRST_ADAPTER, 600, "constant", end_percent=0.75),
    prompts.Stretch(prompts.FIRST_ADAPTER, 600, "constant"),
    prompts.Stretch(prompts.ADAPTER, 600),
)
# For the comparison without an adapter: what that does to the look shows soon.
NO_ADAPTER_STRETCHES = (prompts.Stretch(None, 300),)


@dataclass(frozen=True)
class MotionLora:
    """What the clips show, how many there are, and the stretches of the training: steps, and down to which noise level.

    ``spread``: up to how many degrees off their direction the clips are. ``start``: the MotionLoRA that is trained on.
    """

    shown: str
    clips: int
    stretches: tuple[tuple[int, float], ...]
    spread: float = 0.0
    start: str | None = None


# High noise teaches a direction in the fewest steps, growth needs lower levels too.
SHORT = ((300, 0.25),)
LONG = ((900, 0.3), (300, 0.6))
LORAS = {
    "right": MotionLora("right", 50, LONG),
    "up": MotionLora("up", 50, LONG),
    "left": MotionLora("left", 50, SHORT),
    "zoom-in": MotionLora("zoom-in", 50, ((200, 0.5),)),
    # For two that add up: of clips of exactly one direction those to the right and those up have nothing in common.
    "right-spread": MotionLora("right", 50, ((300, 0.6), (300, 0.35)), spread=60, start="right"),
    "up-spread": MotionLora("up", 50, ((300, 0.6), (300, 0.35)), spread=60, start="up"),
    # for the comparison of 50 clips with 5
    "right-50-clips": MotionLora("right", 50, SHORT),
    "right-5-clips": MotionLora("right", 5, SHORT),
}


def train_pictures(work: Path) -> None:
    """Autoencoder and both text-to-image UNets."""
    autoencoder = stills.train_autoencoder(work, steps=3000)
    contexts = text_encoder.contexts([*scenes.CAPTIONS, ""])
    base = stills.train_unet("stills", scenes.draw_still, autoencoder, contexts, work, 1600, 2e-3, horizon=3200)
    restyled = stills.train_unet(
        "personalised", scenes.draw_personalised, autoencoder, contexts, work, 600, 1e-3, start=base
    )
    for name, tensors, size in (("autoencoder", autoencoder, 2), ("stills", base, 1), ("personalised", restyled, 1)):
        weights.save_live(name, tensors, size)


class MotionStages:
    """The stages that run through the nodes, on one server. Files are kept in ``models`` under the names of claims.py."""

    def __init__(self, server, models: Path):
        self.server, self.models = server, models

    def clips(self, name: str, count: int, seed: int, path_of=scenes.random_path) -> str:
        """Write the videos of a stage into the server's input folder; returns the name of the folder."""
        videos.write_clips(self.server.run / "input" / name, count, seed, path_of)
        return name

    def run(self, folder: str, name: str, prompt: dict) -> None:
        """Queue a training prompt and keep what it saved as ``name``, unless that is there already."""
        target = self.models / folder / f"{name}.safetensors"
        if target.exists():
            return
        saved_before = set(self._saved(folder))
        self.server.wait(self.server.submit(prompt), timeout=24 * 3600)
        (saved,) = set(self._saved(folder)) - saved_before
        shutil.move(saved, target)
        print(f"{name}: done", flush=True)

    def _saved(self, folder: str) -> list[Path]:
        return sorted((self.server.run / "models" / folder).glob("*.safetensors"))

    def adapter(self, file: str, steps: int, rank: int) -> None:
        name = Path(file).stem
        folder = self.clips("videos", MOTION_CLIPS, seed=11)
        self.run("loras", name, prompts.domain_adapter_prompt(folder, name, steps, rank))

    def module(self, name: str, stretches: tuple[prompts.Stretch, ...]) -> None:
        """A motion module, trained in several prompts."""
        folder = self.clips("videos", MOTION_CLIPS, seed=11)
        start = f"{name}-0"
        first = self.models / "animatediff_models" / f"{start}.safetensors"
        if not first.exists():
            save_file(motion.untrained(), first)
        for i, stretch in enumerate(stretches, 1):
            done = name if i == len(stretches) else f"{name}-{i}"
            prompt = prompts.motion_module_prompt(folder, f"{start}.safetensors", stretch, seed=i)
            self.run("animatediff_models", done, prompt)
            start = done

    def motion_lora(self, name: str, recipe: MotionLora) -> None:
        folder = self.clips(name, recipe.clips, seed=13, path_of=videos.path_towards(recipe.shown, recipe.spread))
        start = recipe.start and f"toyworld-{recipe.start}"
        for i, (steps, end_percent) in enumerate(recipe.stretches, 1):
            done = name if i == len(recipe.stretches) else f"{name}-{i}"
            prompt = prompts.motion_lora_prompt(folder, done, steps, end_percent, start)
            self.run("animatediff_motion_lora", done, prompt)
            start = done


def train_all(new_server: Callable, new_bench: Callable, work: Path, until: str | None = None) -> None:
    """All stages, on servers that ``new_server(run folder, models=[...])`` starts; those that are done are skipped.

    ``new_bench()`` makes the toy world in this process, of what is shipped by then. ``until``: "pictures", "adapter", "module", or None for all.
    """
    models = work / "models"
    train_pictures(work)
    weights.expand_checkpoints(models)
    for folder in ("animatediff_models", "animatediff_motion_lora", "loras"):
        (models / folder).mkdir(exist_ok=True)
    if until == "pictures":
        return
    with new_server(work / "run", models=[models]) as server:
        stages = MotionStages(server, models)
        stages.adapter(prompts.FIRST_ADAPTER, steps=300, rank=8)
        stages.adapter(prompts.ADAPTER, steps=600, rank=16)
        if until == "adapter":
            return
        stages.module("toyworld", MOTION_STRETCHES)
        if until == "module":
            return
        for name, recipe in LORAS.items():
            stages.motion_lora(f"toyworld-{name}", recipe)
        keep(models)
        # for comparison only, so it comes last
        stages.module("toyworld-no-adapter", NO_ADAPTER_STRETCHES)
        keep(models)
    # MotionLoRAs that were trained before it act on what comes out as they did
    refine_motion_module(new_bench())


def keep(models: Path) -> None:
    """Keep what has been trained through the nodes in the repository: of motion modules the live part."""
    for name in ("toyworld", "toyworld-no-adapter"):
        source = models / "animatediff_models" / f"{name}.safetensors"
        if source.exists():
            weights.save_live(name.replace("toyworld", "motion"), motion.live_part(load_file(source)), 1)
    source = models / "loras" / prompts.ADAPTER
    weights.save_live("adapter", load_file(source), 1, weights.notes_of(source))
    for name in LORAS:
        source = models / "animatediff_motion_lora" / f"toyworld-{name}.safetensors"
        weights.save_live(f"lora-{name}", load_file(source), 1, weights.notes_of(source))
