"""Small trainings for one process and for several, from seeds: what they give must be the same.

worker.py runs them. Each returns tensors and numbers, which tests compare.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager

import torch

FRAMES = 4
# Every setting that draws from chance or changes the loss.
ALL = {"accumulate": 2, "min_snr_gamma": 5.0, "noise_offset": 0.1}
THIRD = 3


class World:
    """The pack in its ComfyUI, tiny models, and which process this is."""

    def __init__(self, pack, tiny, rank: int, count: int):
        self.pack, self.tiny, self.rank, self.count = pack, tiny, rank, count

    def module(self, name: str):
        return self.pack.submodule(f"training.{name}")

    def settings(self, checkpoints: dict | None = None, validation: bool = False, **changes):
        module = self.module("settings")
        names = ("ema", *ALL)
        options = {name: changes.pop(name) for name in names if name in changes}
        if checkpoints is not None:
            options["checkpoints"] = module.CheckpointSettings(**{"clip": False, **checkpoints})
        if validation:
            held_out = module.ValidationSettings(tuple(self.latents(1, seed=9)), (self.tiny.cond(1),), every=1)
            options["validation"] = held_out
        defaults = {"steps": 2, "frames": FRAMES, "batch": 4, "learning_rate": 1e-2, "caption_dropout": 0.5}
        return module.TrainingSettings(**{**defaults, **changes}, options=module.TrainingOptions(**options))

    def latents(self, clips: int = 3, seed: int = 5) -> list[dict]:
        generator = torch.Generator().manual_seed(seed)
        return [{"samples": torch.randn(6, 4, 8, 8, generator=generator)} for _ in range(clips)]

    def animated(self):
        files = self.pack.submodule("motion_models.files.motion_model")
        applied = self.pack.submodule("sampling.motion.applied")
        with torch.inference_mode():
            tensors = self.tiny.motion_model_tensors(self.pack)
            spec, tensors = files.interpret("tiny", tensors, {})
            motion_model = files.new_motion_model(spec, tensors)
            motion = applied.apply(motion_model, applied.MotionSettings(), ())
            return self.pack.submodule("sampling.evolved").animate(self.tiny.tiny_model(), motion, "autoselect")

    def train(self, kind: str, latents: list[dict] | None = None, **changes):
        """``(tensors by name, record)`` of a training of a MotionLoRA ("lora"), an adapter or a module."""
        data = (self.latents() if latents is None else latents, [self.tiny.cond(1)], self.tiny.cond(2))
        with torch.inference_mode(), torch.inference_mode(False), torch.enable_grad():
            if kind == "lora":
                train = self.module("motion_lora").train_motion_lora
                lora, record = train(self.animated(), *data, self.settings(**changes), rank=4, alpha=4.0)
                return {f"{name}.{i}": half for name, pair in lora.pairs.items() for i, half in enumerate(pair)}, record
            with torch.inference_mode():
                model = self.tiny.tiny_model()
            if kind == "adapter":
                train = self.module("domain_adapter").train_domain_adapter
                return train(model, *data, self.settings(**{"frames": 1, **changes}), rank=4, alpha=4.0)
            patcher, record = self.module("motion_module").train_motion_module(model, *data, self.settings(**changes))
            return dict(patcher.model.state_dict()), record

    def trained(self, kind: str, **changes) -> dict:
        tensors, record = self.train(kind, **changes)
        return {
            "tensors": {name: tensor.clone() for name, tensor in tensors.items()},
            "losses": record.losses,
            "norms": record.norms,
            "validation": record.validation,
            "ended_early": record.ended_early,
        }


@contextmanager
def gradients_noted():
    """The gradients that each step was made with, whole ones, in a list."""
    found, clip = [], torch.nn.utils.clip_grad_norm_

    def note(parameters, norm):
        gradients = [parameter.grad for parameter in parameters]
        whole = [gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient for gradient in gradients]
        found.append(torch.cat([gradient.flatten() for gradient in whole]))
        return clip(parameters, norm)

    torch.nn.utils.clip_grad_norm_ = note
    try:
        yield found
    finally:
        torch.nn.utils.clip_grad_norm_ = clip


def gradient(kind: str, **changes) -> Callable:
    def run(world: World) -> dict:
        with gradients_noted() as found:
            world.train(kind, steps=1, **changes)
        return {"gradient": found[0].clone()}

    return run


def trained(kind: str, **changes) -> Callable:
    return lambda world: world.trained(kind, **changes)


@contextmanager
def objective(world: World, change: Callable):
    """``change(call, loss)`` in place of the loss; calls are counted from 1."""
    objectives = world.module("objectives").OBJECTIVES
    epsilon, calls = objectives["epsilon"], iter(range(1, 1000))
    objectives["epsilon"] = lambda *arguments: change(next(calls), epsilon(*arguments))
    try:
        yield
    finally:
        objectives["epsilon"] = epsilon


def in_one_process(kind: str, rank: int, do: Callable, **changes) -> Callable:
    """A training of five steps in which process ``rank`` does something in the third."""

    def run(world: World) -> dict:
        with objective(world, lambda call, loss: do(loss) if call == THIRD and world.rank == rank else loss):
            return world.trained(kind, steps=5, **changes)

    return run


def out_of_memory(_):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


def stop(_):
    """What the host does once the user has pressed Stop."""
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(True)
    comfy.model_management.throw_exception_if_processing_interrupted()


def stop_in_validation(kind: str) -> Callable:
    """Only the first process validates."""

    def run(world: World) -> dict:
        trainer = world.module("trainer")
        measured, calls = trainer.validation_loss, iter(range(1, 1000))
        trainer.validation_loss = lambda *arguments: stop(0) if next(calls) == THIRD else measured(*arguments)
        try:
            return world.trained(kind, steps=5, validation=True)
        finally:
            trainer.validation_loss = measured

    return run


def stop_in_a_step(kind: str) -> Callable:
    """As training/cli.py does when a signal comes to one process in the middle of a step."""

    def run(world: World) -> dict:
        import comfy.model_management

        distributed = world.module("distributed")

        def signal(loss):
            distributed.interrupt(comfy.model_management.interrupt_current_processing)
            return loss

        return in_one_process(kind, 1, signal)(world)

    return run


def stop_in_both(world: World) -> dict:
    """Process 1 hears of it first; process 0 in the middle of the same step, and once more when what was trained is being saved."""
    import comfy.model_management

    signal = comfy.model_management.interrupt_current_processing
    distributed = world.module("distributed")

    def hear(loss):
        if world.rank == 1:
            stop(loss)
        distributed.interrupt(signal)
        return loss

    result = in_one_process("lora", world.rank, hear)(world)
    interrupted = comfy.model_management.processing_interrupted()
    distributed.interrupt(signal)
    return {**result, "interrupted": interrupted or comfy.model_management.processing_interrupted()}


def other_clips(world: World) -> dict:
    return world.trained("lora", latents=world.latents(clips=3 - world.rank))


def held(kind: str) -> Callable:
    """How many numbers this process holds of the trained weights, of their gradients, and of the optimiser's averages."""

    def run(world: World) -> dict:
        trainer, found = world.module("trainer"), {}
        step = trainer._Training.step

        def noted(self):
            result = step(self)
            local = world.module("spread").local
            found["weights"] = sum(local(parameter).numel() for parameter in self.parameters)
            found["gradients"] = sum(local(parameter.grad).numel() for parameter in self.parameters)
            found["averages"] = sum(local(of["exp_avg"]).numel() for of in self.optimizer.state.values())
            found["before"] = sum(map(torch.numel, self.before))
            return result

        trainer._Training.step = noted
        try:
            world.train(kind, steps=1)
        finally:
            trainer._Training.step = step
        return found

    return run


def files(world: World) -> dict:
    """What a training writes in this process, and what is left of it in the models folder."""
    import folder_paths

    folder = os.path.join(folder_paths.models_dir, "animatediff_motion_lora")
    checkpoints, written = world.module("checkpoints"), []
    whole_file = checkpoints.whole_file
    checkpoints.whole_file = lambda path: written.append(os.path.basename(path)) or whole_file(path)
    try:
        settings = {"prefix": "files", "every": 1, "keep": 2, "clip": True}
        world.trained("lora", steps=3, checkpoints=settings, validation=True)
    finally:
        checkpoints.whole_file = whole_file
    return {"written": written, "files": sorted(name for name in os.listdir(folder) if name.startswith("files"))}


def halves(kind: str, prefix: str, **changes) -> dict[str, Callable]:
    def checkpoints(go_on: bool) -> dict:
        return {"prefix": f"{prefix}_{kind}", "every": 3, "go_on": go_on}

    return {
        f"first half of {prefix} {kind}": trained(kind, steps=3, checkpoints=checkpoints(False), **changes),
        f"second half of {prefix} {kind}": trained(kind, steps=6, checkpoints=checkpoints(True), **changes),
    }


KINDS = ("lora", "adapter", "module")
SCENARIOS: dict[str, Callable[[World], dict]] = {
    **{f"gradient of a {kind}": gradient(kind) for kind in KINDS},
    "gradient with everything": gradient("lora", noise_pairs=True, objective="appearance-debiased", **ALL),
    "gradient of a module with everything": gradient(
        "module", noise_pairs=True, objective="appearance-debiased", **ALL
    ),
    "gradient with checkpointing off": gradient("module", checkpointing=False),
    **{f"six steps of a {kind}": trained(kind, steps=6) for kind in KINDS},
    "six steps of a module with an average": trained("module", steps=6, ema=0.8),
    **{
        name: run
        for prefix in ("keeping", "shrinking", "growing")  # the number of processes
        for kind in KINDS
        for name, run in halves(kind, prefix).items()
    },
    "a batch of three": trained("lora", batch=3),
    **{f"NaN in a {kind}": in_one_process(kind, 1, lambda loss: loss * float("nan")) for kind in ("lora", "module")},
    "one step of a lora": trained("lora", steps=1),
    "one step of a module": trained("module", steps=1),
    "two steps of a lora": trained("lora", steps=2),
    "three steps of a lora": trained("lora", steps=3),
    "three steps of a module": trained("module", steps=3),
    "memory runs out in a lora": in_one_process("lora", 1, out_of_memory),
    "memory runs out in the first process": in_one_process("lora", 0, out_of_memory),
    "stop in a lora": in_one_process("lora", 1, stop),
    "stop in both processes": stop_in_both,
    "stop in a module": stop_in_a_step("module"),
    **{f"stop in the validation of a {kind}": stop_in_validation(kind) for kind in ("lora", "module")},
    "validation": trained("lora", steps=3, validation=True),
    "validation of a module": trained("module", steps=3, validation=True, ema=0.8),
    "other clips": other_clips,
    "memory runs out in a module": in_one_process("module", 1, out_of_memory),
    **{f"numbers of a {kind}": held(kind) for kind in ("lora", "module")},
    "files": files,
}
