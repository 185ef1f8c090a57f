"""Making the toy world from seeds: the stages in order, each kept when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

from . import landscapes, motion, prompts, scenes, stills, videos, weights
from .live_training import loras_of, refine_motion_module, train_landscape_motion, train_motion_loras
from .worlds import LANDSCAPES, SCENES

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


def train_pictures(work: Path) -> None:
    """Autoencoder and both text-to-image UNets."""
    autoencoder = stills.train_autoencoder("autoencoder", stills.any_scene, work, steps=3000)
    of_scenes = autoencoder, scenes.CAPTIONS, work
    base = stills.train_unet("stills", stills.scene_still(scenes.draw_still), *of_scenes, 1600, 2e-3, horizon=3200)
    restyled = stills.train_unet(
        "personalised", stills.scene_still(scenes.draw_personalised), *of_scenes, 600, 1e-3, start=base
    )
    for name, tensors, size in (("autoencoder", autoencoder, 2), ("stills", base, 1), ("personalised", restyled, 1)):
        weights.save_live(name, tensors, size)


def train_landscapes(new_bench: Callable, work: Path) -> None:
    """All of the landscapes: pictures, the motion module, MotionLoRAs. ``new_bench(world)`` makes them in this process."""
    autoencoder = stills.train_autoencoder("landscapes-autoencoder", landscapes.any_picture, work, steps=3000)
    of_landscapes = autoencoder, landscapes.CAPTIONS, work
    begun = stills.train_unet("landscapes-stills-begun", landscapes.still, *of_landscapes, 2400, 2e-3)
    base = stills.train_unet("landscapes-stills", landscapes.still, *of_landscapes, 3600, 1.5e-3, start=begun)
    restyled = stills.train_unet("landscapes-personalised", landscapes.shore, *of_landscapes, 900, 5e-4, start=base)
    for name, tensors in (("autoencoder", autoencoder), ("stills", base), ("personalised", restyled)):
        weights.save_live(f"landscapes-{name}", tensors, 1)
    train_landscape_motion(new_bench(LANDSCAPES))
    train_motion_loras(new_bench, loras_of(LANDSCAPES))


class MotionStages:
    """The stages that run through the nodes, on one server. Files are kept in ``models`` under the names of claims.py."""

    def __init__(self, server, models: Path):
        self.server, self.models = server, models

    def clips(self) -> str:
        """Write the videos into the server's input folder; returns the name of the folder."""
        videos.write_clips(self.server.run / "input" / "videos", MOTION_CLIPS, seed=11)
        return "videos"

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
        self.run("loras", name, prompts.domain_adapter_prompt(self.clips(), name, steps, rank))

    def module(self, name: str, stretches: tuple[prompts.Stretch, ...]) -> None:
        """A motion module, trained in several prompts."""
        folder = self.clips()
        start = f"{name}-0"
        first = self.models / "animatediff_models" / f"{start}.safetensors"
        if not first.exists():
            save_file(motion.untrained(), first)
        for i, stretch in enumerate(stretches, 1):
            done = name if i == len(stretches) else f"{name}-{i}"
            prompt = prompts.motion_module_prompt(folder, f"{start}.safetensors", stretch, seed=i)
            self.run("animatediff_models", done, prompt)
            start = done


def train_all(new_server: Callable, new_bench: Callable, work: Path, until: str | None = None) -> None:
    """All stages of plain scenes, of which those on a server are skipped if they are done.

    ``new_server(run folder, models=[...])`` starts one. ``new_bench(world)`` makes a world in this process, of what is shipped by
    then. ``until``: "pictures", "adapter", "module", or None for all.
    """
    models = work / "models"
    train_pictures(work)
    weights.expand_checkpoints(models)
    for folder in ("animatediff_models", "loras"):
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
        # for comparison
        stages.module("toyworld-no-adapter", NO_ADAPTER_STRETCHES)
    keep(models)
    refine_motion_module(new_bench(SCENES))
    if until != "module":
        train_motion_loras(new_bench, loras_of(SCENES))


def keep(models: Path) -> None:
    """Keep what has been trained through the nodes in the repository: of motion modules the live part."""
    for name in ("toyworld", "toyworld-no-adapter"):
        source = models / "animatediff_models" / f"{name}.safetensors"
        weights.save_live(name.replace("toyworld", "motion"), motion.live_part(load_file(source)), 1)
    source = models / "loras" / prompts.ADAPTER
    weights.save_live("adapter", load_file(source), 1, weights.notes_of(source))
