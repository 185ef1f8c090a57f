"""Which settings teach a MotionLoRA its direction soonest: an ablation of Train MotionLoRA on the toy world.

Each training is that of the node, with its defaults but for what a variant says, from 20 clips of one direction. It runs in this
process on the live channels (``toyworld.live``). Checkpoints on the way sample unseen clips, which are measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import comfy.sample
import comfy.samplers
import folder_paths
import numpy as np
import torch

from . import live, measure, scenes, text_encoder
from .checkpoint import LATENT_SCALE
from .prompts import FOLLOW_TRAINED, SAMPLING, precision
from .worlds import SCENES, World

DIRECTIONS = {"down": -np.pi / 2, "left": np.pi, "up-right": np.pi / 4, "right": 0.0, "up": np.pi / 2}
CLIPS, UNSEEN = 20, 16
FIRST_SEED = 700_000  # of the unseen clips: these are used for nothing else
COLUMNS = ("variant", "direction", "seed", "steps", "within", "error", "content", "watermark", "motion", "seconds")

# What the node had for defaults before, with batches of 4.
BEFORE = {
    "alpha": 16.0,
    "learning_rate": 5e-4,
    "learning_rate_schedule": "constant",
    "end_percent": 1.0,
    "from_pure_noise": False,
}
# As the shipped MotionLoRAs were trained.
SHIPPED = {"noise_pairs": True, "weight_decay": 0.0, "from_pure_noise": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "before": BEFORE,
    "shipped": SHIPPED,
    "from_pure_noise off": {"from_pure_noise": False},
    "noise_pairs": {"noise_pairs": True},
    "end_percent 0.5": {"end_percent": 0.5},
    "end_percent 1": {"end_percent": 1.0},
    "learning_rate 1e-3": {"learning_rate": 1e-3},
    "learning_rate 2e-3": {"learning_rate": 2e-3},
    "constant learning rate": {"learning_rate_schedule": "constant"},
    "appearance-debiased": {"loss": "appearance-debiased"},
    "rank 4": {"rank": 4, "alpha": 8.0},
    "rank 64": {"rank": 64, "alpha": 128.0},
    "min-SNR 5": {"min_snr_gamma": 5.0},
    "ema 0.95": {"ema": 0.95},
    "rsLoRA": {"rslora": True, "alpha": 8.0},
    "batch 1": {"batch": 1},
}


def clips(
    path_of: Callable, count: int = CLIPS, seed: int = 13, world: World = SCENES
) -> tuple[list[torch.Tensor], list[str]]:
    """Videos made by ``path_of(rng, caption=...)``, and their captions; every caption in turn."""
    rng = np.random.default_rng(seed)
    captions = [world.captions[i % len(world.captions)] for i in range(count)]
    paths = [path_of(rng, caption=caption) for caption in captions]
    # as 8 bits, which a video file has
    return [torch.from_numpy((world.video(path) * 255).round() / 255).float() for path in paths], captions


def crossing(direction: str) -> Callable:
    """For ``clips``: shapes that cross the frame."""
    return partial(scenes.random_path, direction=DIRECTIONS[direction], travel=scenes.CROSSING)


def noise(seed: int, frames: int, size: int) -> torch.Tensor:
    """What KSampler begins with, for pictures of ``size``."""
    return comfy.sample.prepare_noise(_empty(frames, size), seed)


def _empty(frames: int, size: int) -> torch.Tensor:
    return torch.zeros(frames, 4, size // 8, size // 8)


def _keep(seen: list[torch.Tensor], step: int, denoised: torch.Tensor, noisy: torch.Tensor, steps: int) -> None:
    seen.append(noisy.cpu().clone())


def _without_mean(clips: torch.Tensor) -> torch.Tensor:
    """Without the picture that all frames of all clips share: the ground, which is there soon."""
    return clips - clips.mean((0, 1))


class Bench:
    """A world in this process: trains MotionLoRAs, and samples with them."""

    def __init__(self, pack, world: World = SCENES):
        self.pack, self.world = pack, world
        self.vae = live.Autoencoder(world)
        self.animate = pack.submodule("sampling.evolved").animate
        self.still = live.text_to_image(world=world)
        texts = [*world.captions, ""]
        self.conditioning = dict(zip(texts, live.conditionings(texts), strict=True))

    @cached_property
    def motion(self):
        """The motion model that is shipped."""
        return live.motion_patcher(self.pack, self.world)

    def model(self, motion=None, contexts=(), scale: float = 1.0):
        applied = self.pack.submodule("sampling.motion.applied")
        motion_models = applied.apply(motion or self.motion, applied.MotionSettings(scale=scale))
        return self.animate(self.still, motion_models, "autoselect", contexts)

    def settings(self, changes: dict[str, Any], steps: int, seed: int, prefix: str, every: int):
        """TrainingSettings, rank and alpha: the defaults of the node but for ``changes``."""
        nodes = self.pack.submodule("nodes.training")
        inputs = nodes.TrainMotionLoRA.GET_SCHEMA().inputs
        values = {one.id: one.default for one in inputs if getattr(one, "default", None) is not None}
        types = self.pack.submodule("training.settings")
        saved = types.CheckpointSettings(prefix, every, 1000, clip=False)
        options = {name: value for name, value in changes.items() if name not in values}
        own = {"gradient_checkpointing": False, "precision": precision(), "steps": steps, "seed": seed}
        values |= own | {name: value for name, value in changes.items() if name in values}
        rank, alpha = values.pop("rank"), float(values.pop("alpha"))
        options = types.TrainingOptions(checkpoints=saved, **options)
        return nodes.settings_of({**values, "options": options}), rank, alpha

    def paths(self, videos: list[torch.Tensor], captions: list[str]):
        """What Training Paths hands on for the paths that Motion Path from Clip finds in ``videos``."""
        nodes = {node.GET_SCHEMA().node_id: node for node in self.pack.submodule("nodes").NODES}
        find = self.pack.submodule("sampling.paths.found").from_clip
        asked = {name: [FOLLOW_TRAINED[name]] for name in ("noise", "attention")}
        options = nodes["AnimateDiffTrainingPaths"].execute(
            paths=[find(video.movedim(-1, 1)) for video in videos],
            **asked,
            clip=[text_encoder.clip()],
            prompts=captions,
        )
        return options.args[0].paths

    def train(
        self, shown: tuple[list[torch.Tensor], list[str]], changes: dict[str, Any], steps: int, seed: int, every: int
    ):
        """Train one on videos and their captions; returns the checkpoints by their steps, and the record of the training."""
        prefix = f"recipe-{time.time_ns()}"
        videos, captions = shown
        latents = [{"samples": self.vae.encode(video)} for video in videos]
        settings, rank, alpha = self.settings(changes, steps, seed, prefix, every)
        positive = [self.conditioning[caption] for caption in captions]
        train = self.pack.submodule("training.motion_lora").train_motion_lora
        with torch.enable_grad():
            _, record = train(self.model(), latents, positive, self.conditioning[""], settings, rank, alpha)
        files = sorted(Path(folder_paths.models_dir).rglob(f"{prefix}*.safetensors"))
        return {int(file.stem.rpartition("step")[2]): file for file in files}, record

    def animated(self, *loras: Path, strength: float = 1.0, contexts=(), scale: float = 1.0):
        """The MODEL, with MotionLoRAs, each at ``strength``; files with the channels that are zero or without."""
        files, apply = self.pack.submodule("lora.motion_lora"), self.pack.submodule("lora.apply")
        strengths = self.pack.submodule("motion_models.network.strength")
        layers, applied = dict(self.motion.model.projections()), []
        for file in loras:
            pairs = live.live_lora(files.read_motion_lora(str(file)).pairs, layers)
            applied.append(
                files.AppliedMotionLora(files.MotionLora(file.stem, pairs), strengths.VaryingStrength(strength))
            )
        return self.model(apply.apply_motion_loras(self.motion, tuple(applied))[0] if loras else None, contexts, scale)

    def latents(
        self,
        model,
        text: str | list,
        seed: int,
        frames: int = scenes.FRAMES,
        callback: Callable | None = None,
        steps: int = SAMPLING["steps"],
    ) -> torch.Tensor:
        """A clip of a MODEL, sampled as KSampler samples it; ``callback(step, denoised, noisy, steps)`` sees it on its way.

        ``text``: a caption, or a CONDITIONING.
        """
        with torch.inference_mode():
            return comfy.sample.sample(
                model,
                noise(seed, frames, self.world.size),
                steps=steps,
                cfg=self.world.cfg,
                sampler_name=SAMPLING["sampler_name"],
                scheduler=SAMPLING["scheduler"],
                positive=self.conditioning[text] if isinstance(text, str) else text,
                negative=self.conditioning[""],
                latent_image=_empty(frames, self.world.size),
                callback=callback,
                disable_pbar=True,
                seed=seed,
            )

    def sampled(
        self, model, text: str | list, seed: int, frames: int = scenes.FRAMES, steps: int = SAMPLING["steps"]
    ) -> np.ndarray:
        """The frames of it, ``(frames, height, width, 3)``."""
        return self.vae.decode(self.latents(model, text, seed, frames, steps=steps)).numpy()

    def shares(self, count: int, lora: Path | None = None) -> list[tuple[float, float]]:
        """How much of what moves there is on the way: the noise level of each step, and the part of the finished clips."""
        model = self.animated(*filter(None, (lora,)))
        on_the_way: list[list[torch.Tensor]] = []
        finished = []
        for i in range(count):
            seen: list[torch.Tensor] = []
            on_the_way.append(seen)
            caption = scenes.CAPTIONS[i % len(scenes.CAPTIONS)]
            keep = partial(_keep, seen)
            finished.append(self.latents(model, caption, FIRST_SEED + i, callback=keep) * LATENT_SCALE)
        sigmas = comfy.samplers.calculate_sigmas(
            model.get_model_object("model_sampling"), SAMPLING["scheduler"], SAMPLING["steps"]
        )
        started = torch.stack([noise(FIRST_SEED + i, scenes.FRAMES, scenes.SIZE) for i in range(count)])
        moving = _without_mean(torch.stack(finished))
        found = []
        for step, sigma in enumerate(sigmas[1:-1].tolist(), 1):
            made = _without_mean(torch.stack([seen[step] for seen in on_the_way]) - sigma * started)
            found.append((sigma, float((made * moving).sum() / (moving * moving).sum())))
        return found

    def measured(self, direction: str, lora: Path | None, count: int) -> dict[str, float]:
        """Of ``count`` unseen clips: how many go within 45 degrees, and so on; one that cannot be followed counts as the opposite."""
        captions = [scenes.CAPTIONS[i % len(scenes.CAPTIONS)] for i in range(count)]
        model = self.animated(*filter(None, [lora]))
        frames = [self.sampled(model, caption, FIRST_SEED + i) for i, caption in enumerate(captions)]
        tracks = map(measure.follow, frames)
        errors = np.array([180.0 if t is None else t.angle_to(DIRECTIONS[direction]) for t in tracks])
        content = [measure.content_matches(f, c) for f, c in zip(frames, captions, strict=True)]
        return {
            "within": 100 * float((errors < 45).mean()),
            "error": float(errors.mean()),
            "content": 100 * float(np.mean(content)),
            "watermark": float(np.mean([measure.watermark(f) for f in frames])),
        }


def run(
    pack, variants: list[str], directions: list[str], seeds: list[int], steps: int, every: int, count: int, rows: Path
):
    """One row for each checkpoint, printed and written to ``rows`` as it comes; those that are there are not made again."""
    bench = Bench(pack)
    kept: list[dict] = json.loads(rows.read_text()) if rows.exists() else []
    print("| " + " | ".join(COLUMNS) + " |", flush=True)
    for variant in variants:
        for direction in directions:
            for seed in seeds:
                which = {"variant": variant, "direction": direction, "seed": seed, "of": steps, "clips": count}
                if any(all(row[key] == value for key, value in which.items()) for row in kept):
                    continue
                start = time.monotonic()
                found, record = bench.train(clips(crossing(direction)), VARIANTS[variant], steps, seed, every)
                taken = time.monotonic() - start
                for step, file in found.items():
                    row = {**which, "steps": step, **bench.measured(direction, file, count)}
                    row |= {
                        "seconds": taken,
                        "motion": record.motion.get(step),
                        "motions": record.motion,
                        "file": file.name,
                    }
                    kept.append(row)
                    partial = rows.with_suffix(".partial")
                    partial.write_text(json.dumps(kept, indent=1))
                    partial.replace(rows)
                    print(line(row), flush=True)


def line(row: dict) -> str:
    cells = [row[name] for name in COLUMNS]
    return "| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"


def print_shares(pack, lora: Path | None, count: int) -> None:
    """The table behind ``TrainingUNet.share``."""
    bench = Bench(pack)
    highest = float(bench.model().get_model_object("model_sampling").sigma_max)
    print("| noise level | share of what moves | (1 - s / max) ** 3 |\n|---|---|---|")
    for sigma, share in bench.shares(count, lora):
        print(f"| {sigma:.1f} | {share:.2f} | {(1 - sigma / highest) ** 3:.2f} |", flush=True)
