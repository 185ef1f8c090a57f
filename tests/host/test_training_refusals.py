"""What the training nodes refuse, before models are unloaded and copied. Settings alone: tests/unit/test_training_settings.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch


class Given:
    """A test's fixtures, as attributes."""

    def __init__(self, request: pytest.FixtureRequest):
        self._request = request

    def __getattr__(self, name: str):
        return self._request.getfixturevalue(name)


@pytest.fixture
def given(request) -> Given:
    return Given(request)


Row = tuple[Callable[[Given], object], str]


def combined(given: Given) -> list:
    """Conditioning (Combine) of two texts."""
    return given.new_cond(1) + given.new_cond(2)


def held_out(given: Given, **changes) -> object:
    clips = {"latents": tuple(given.new_latents(2)), "positive": (given.positive,)}
    return given.options(validation={**clips, **changes})


class StandIn:
    """In place of a ControlNet, of a CLIP or of GLIGEN, which nodes only hand on."""

    def copy(self):
        return self

    def set_cond_hint(self, *_, **__):
        return self

    def set_previous_controlnet(self, _):
        pass

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens(self, *_, **__) -> tuple:
        return None, torch.zeros(1, 8)


def in_sampling(kind: str, conditioning: list) -> list:
    """The conditioning behind a node of the host that adds what only sampling heeds."""
    import comfy.hooks

    import nodes

    one, picture = StandIn(), torch.zeros(1, 8, 8, 3)
    return {
        "an area": lambda: nodes.ConditioningSetArea().append(conditioning, 32, 64, 0, 0, 1.0)[0],
        "a mask": lambda: nodes.ConditioningSetMask().append(conditioning, torch.ones(1, 8, 8), "default", 1.0)[0],
        "a strength other than 1": lambda: nodes.ConditioningSetAreaStrength().append(conditioning, 0.5)[0],
        "a range of steps": lambda: nodes.ConditioningSetTimestepRange().set_range(conditioning, 0.2, 1.0)[0],
        "a ControlNet": lambda: nodes.ControlNetApplyAdvanced().apply_controlnet(
            conditioning, conditioning, one, picture, 1.0, 0.0, 1.0
        )[0],
        "boxes of GLIGEN": lambda: nodes.GLIGENTextBoxApply().append(conditioning, one, one, "a", 32, 32, 0, 0)[0],
        "hooks": lambda: comfy.hooks.set_hooks_for_conditioning(conditioning, comfy.hooks.HookGroup()),
    }[kind]()


ONLY_IN_SAMPLING = ("an area", "a mask", "a strength other than 1", "a range of steps", "a ControlNet")
ONLY_IN_SAMPLING += ("boxes of GLIGEN", "hooks")

CLIPS: dict[str, Row] = {
    **{
        f"a text with {kind}": (
            lambda g, kind=kind: g.train_lora(conditionings=[in_sampling(kind, g.positive)]),
            f"The conditioning positive has {kind}, which only sampling heeds.*Connect the text as it comes from CLIP Text",
        )
        for kind in ONLY_IN_SAMPLING
    },
    "a text with two of them": (
        lambda g: g.train_lora(
            conditionings=[g.positive, in_sampling("a mask", in_sampling("an area", g.positive)), g.positive]
        ),
        "Conditioning 2 of positive has an area and a mask, which only",
    ),
    "the empty text with a mask": (
        lambda g: g.with_gradients(g.train_with_negative, in_sampling("a mask", g.negative)),
        "The conditioning negative has a mask",
    ),
    "a noise mask": (
        lambda g: g.train_lora(
            latents=[*g.new_latents(1), {**g.new_latents(1)[0], "noise_mask": torch.ones(1, 64, 64)}]
        ),
        "The latents of clip 2 have a noise mask, but training takes whole pictures",
    ),
    "no clips": (lambda g: g.train_lora(latents=[]), "There are no clips to train on: the latents input is empty"),
    "short": (lambda g: g.train_lora(latents=g.new_latents(frames=3)), "Clip 1 has 3 frames, but training takes 4"),
    "one of them short": (
        lambda g: g.train_lora(latents=[*g.new_latents(2), *g.new_latents(1, frames=2)]),
        "Clip 3 has 2 frames, but training takes 4 at a time. Use longer clips or lower frames",
    ),
    "NaN": (
        lambda g: g.train_lora(latents=[{"samples": torch.full((6, 4, 8, 8), float("nan"))}]),
        "The latents of clip 1 hold infinite values or NaN",
    ),
    "of another VAE": (
        lambda g: g.train_lora(latents=[{"samples": torch.zeros(6, 16, 8, 8)}]),
        r"latents of shape \(6, 16, 8, 8\), .* Encode its frames with the VAE of the checkpoint",
    ),
    "captions of other clips": (
        lambda g: g.train_lora(conditionings=[g.positive, g.positive]),
        "There are 3 clips but 2 positive conditionings. Connect one for all clips or one for each",
    ),
    "two texts for all clips": (
        lambda g: g.train_lora(conditionings=[combined(g)]),
        r"The conditioning positive has 2 parts, as Conditioning \(Combine\) makes them.*Conditioning \(Concat\) joins",
    ),
    "two texts for one clip": (
        lambda g: g.train_lora(conditionings=[g.positive, g.positive, combined(g)]),
        "Conditioning 3 of positive has 2 parts",
    ),
    "two empty texts": (
        lambda g: g.with_gradients(g.train_with_negative, combined(g)),
        "The conditioning negative has 2 parts",
    ),
    "no text": (lambda g: g.train_lora(conditionings=[[]]), "The conditioning positive is empty"),
    "held out, short": (
        lambda g: g.train_lora(options=held_out(g, latents=tuple(g.new_latents(frames=3)))),
        "Held-out clip 1 has 3 frames",
    ),
    "held out, none": (
        lambda g: g.train_lora(options=held_out(g, latents=())),
        "There are no held-out clips to train on",
    ),
    "held out, captions of others": (
        lambda g: g.train_lora(options=held_out(g, positive=(g.positive,) * 3)),
        "There are 2 held-out clips but 3 positive conditionings",
    ),
    "held out, a text with a ControlNet": (
        lambda g: g.train_lora(options=held_out(g, positive=(in_sampling("a ControlNet", g.positive),))),
        "The conditioning positive of Training Validation has a ControlNet",
    ),
    "held out, two texts": (
        lambda g: g.train_lora(options=held_out(g, positive=(combined(g),))),
        "The conditioning positive of Training Validation has 2 parts",
    ),
}


def no_stable_diffusion(given: Given):
    model = given.new_model()
    model.model.diffusion_model = torch.nn.Linear(1, 1)
    return model


def with_adapter(given: Given):
    """A MODEL whose motion model is applied with a camera, a picture …"""
    motion = given.pack.submodule("sampling.motion.feature")
    model = given.animated()
    feature = given.pack.submodule("sampling.animate").feature_of(model, motion.Motion)
    (applied,) = feature.motion_models
    applied = replace(applied, settings=replace(applied.settings, adapters=(SimpleNamespace(patchers=()),)))
    return given.pack.submodule("sampling.animate").with_feature(model, replace(feature, motion_models=(applied,)))


MODELS: dict[str, Row] = {
    "no motion model": (
        lambda g: g.train_lora(model=g.new_model()),
        "the MODEL has no motion model. Connect the MODEL of",
    ),
    "two motion models": (
        lambda g: g.train_lora(model=g.animate(g.new_model(), g.new_motion(), g.new_motion(name="other"))),
        "the MODEL has 2 motion models",
    ),
    "a motion model with a camera": (
        lambda g: g.train_lora(model=with_adapter(g)),
        "without a picture to start from and without a camera, but the motion model 'tiny' is applied with one",
    ),
    "frames of a LoRA": (
        lambda g: g.train_lora(frames=33, latents=g.new_latents(frames=40)),
        "frames is 33, but the motion model 'tiny' handles at most 32 frames",
    ),
    "frames of a module": (
        lambda g: g.train_module(version="v1", frames=25),
        r"frames is 25, but a motion model of this layout \(v1\) has positions for 24 frames",
    ),
    "a module for no Stable Diffusion": (
        lambda g: g.train_module(model=no_stable_diffusion(g)),
        "A motion module is trained for a Stable Diffusion UNet, but this checkpoint is a Linear",
    ),
    "an adapter for no Stable Diffusion": (
        lambda g: g.train_adapter(model=no_stable_diffusion(g)),
        "A domain adapter is trained for a Stable Diffusion UNet, but this checkpoint is a Linear",
    ),
    "a start of another family": (
        lambda g: g.train_module(start=g.new_motion(g.layouts["unusual"])),
        "The motion model does not fit this checkpoint's UNet",
    ),
    "ranks of no layer": (
        lambda g: g.train_lora(options=g.options(ranks={"to_x": 4})),
        "ranks of Training Options says to_x, but no layer that is trained has that in its name",
    ),
    "ranks of nothing": (
        lambda g: g.train_adapter(options=g.options(ranks={"attn1": 0, "attn2": 0})),
        "leaves no layer to train: all have rank 0",
    ),
    "a name that leads elsewhere": (
        lambda g: g.train_lora(options=g.options({"prefix": "../elsewhere"})),
        "leads out of the folder",
    ),
}


@pytest.fixture
def train_with_negative(training, animated, new_latents, positive, settings):
    return lambda negative: training("motion_lora").train_motion_lora(
        animated(), new_latents(), [positive], negative, settings(), 4, 4.0
    )


@pytest.mark.parametrize("row", [*CLIPS, *MODELS])
def test_is_refused_before_anything_is_unloaded(given, row):
    assert not CLIPS.keys() & MODELS.keys()
    train, words = {**CLIPS, **MODELS}[row]
    given.nothing_unloaded  # noqa: B018 - from here on
    with pytest.raises(ValueError, match=words):
        train(given)


def test_what_changes_nothing_in_sampling_is_no_reason_to_refuse(train_lora, positive):
    """All steps, at strength 1."""
    import nodes

    whole = nodes.ConditioningSetTimestepRange().set_range(positive, 0.0, 1.0)[0]
    whole = nodes.ConditioningSetAreaStrength().append(whole, 1.0)[0]
    assert train_lora(conditionings=[whole])[1].steps == 2


RESUMED: dict[str, Row] = {
    "on another motion model": (
        lambda g: g.train_lora(model=g.animated(mid=False), resume=g.trained),
        "cannot be resumed on the motion model 'tiny': 8 layers are in one of the two only .* motion model it was trained for",
    ),
    "of other widths": (
        lambda g: g.train_lora(resume=misshapen(g.trained)),
        "cannot be resumed: .* Resume on a motion model of the family that it was trained for",
    ),
}


def misshapen(lora):
    name, (down, up) = next(iter(lora.pairs.items()))
    return replace(lora, pairs={**lora.pairs, name: (down[:2], up)})


@pytest.fixture
def trained(train_lora):
    return train_lora()[0]


@pytest.mark.parametrize("row", RESUMED)
def test_is_not_resumed(given, row):
    train, words = RESUMED[row]
    given.trained, given.nothing_unloaded  # noqa: B018
    with pytest.raises(ValueError, match=words):
        train(given)


# name: (what was trained with, what it is to go on with, words)
NOT_GONE_ON: dict[str, tuple[dict, dict, str]] = {
    "optimizer": (
        {},
        {"optimizer": "Adam"},
        "its optimizer is AdamW, but Adam is chosen. Choose that of the checkpoint",
    ),
    "alpha": ({}, {"alpha": 8.0}, "its alpha is 4.0, but 8.0 is chosen"),
    "rank": ({}, {"rank": 8}, "tensors are not those that are to be trained"),
    "rslora": ({}, {"options": {"rslora": True}}, "its rslora is False, but True is chosen"),
    "ranks": ({"options": {"ranks": {"to_v": 8}}}, {}, "Use the model, rank and ranks that it was trained with"),
}


@pytest.mark.parametrize("row", NOT_GONE_ON)
def test_is_not_gone_on_with(train_lora, options, checkpoint_files, row):
    before, after, words = NOT_GONE_ON[row]

    def train(changes: dict, steps: int, **checkpoints):
        changes = dict(changes)
        train_lora(steps=steps, options=options(checkpoints, **changes.pop("options", {})), **changes)

    train(before, 2)
    files = checkpoint_files("*")
    with pytest.raises(ValueError, match=words):
        train(after, 4, go_on=True)
    assert checkpoint_files("*") == files


@pytest.mark.usefixtures("nothing_unloaded")
def test_a_checkpoint_of_another_version_is_told(train_lora, options, checkpoint_path):
    torch.save({"version": 99}, checkpoint_path("training_00001_step000007.state"))
    with pytest.raises(ValueError, match=r"step000007.state' is none of this version of the pack. Turn go_on"):
        train_lora(options=options({"go_on": True}))


def test_a_checkpoint_that_training_ends_with_at_once_is_named(train_lora, options, in_step):
    train_lora(steps=2, options=options({}))
    in_step(1, lambda loss: loss * float("nan"))
    with pytest.raises(ValueError, match=r"came to nothing.*remove '.*step000002.state': go_on then begins with the"):
        train_lora(steps=3, options=options({"go_on": True}))


# -- the nodes ----------------------------------------------------------------------------------------------------------


def executed(given: Given, node: str, **changes):
    """A training node as the host runs it, every input a list."""
    node = getattr(given.pack.submodule("nodes.training"), node).PREPARE_CLASS_CLONE(None)
    inputs = {one.id: [one.default] for one in node.define_schema().inputs if getattr(one, "default", None) is not None}
    data = {"positive": [given.positive], "negative": [given.negative], "latents": given.new_latents()}
    return node.execute(**{**inputs, **data, "model": [given.animated()], **changes})


LEARNING = {"warmup_steps": 0, "ema": 0.0, "accumulate": 1, "min_snr_gamma": 0.0, "noise_offset": 0.0, "rslora": False}
NODES: dict[str, Row] = {
    "several models": (
        lambda g: executed(g, "TrainMotionLoRA", model=[g.animated()] * 2),
        "The input model got a list of 2 values, but takes one: only latents and positive can be lists",
    ),
    "several steps": (lambda g: executed(g, "TrainMotionLoRA", steps=[1, 2]), "The input steps got a list of 2 values"),
    "several MotionLoRAs": (
        lambda g: executed(
            g, "TrainMotionLoRA", resume=[(g.pack.submodule("lora.motion_lora").AppliedMotionLora(None),) * 2]
        ),
        "resume got 2 MotionLoRAs, but training goes on from one",
    ),
    "one frame": (lambda g: executed(g, "TrainMotionLoRA", frames=[1]), "frames is 1, but has to be at least 2"),
    "no alpha": (lambda g: executed(g, "TrainMotionLoRA", alpha=[0.0]), "alpha is 0, but has to be above 0"),
    "no learning rate": (
        lambda g: executed(g, "TrainMotionModule", learning_rate=[0.0]),
        "learning_rate is 0, but has to be above 0",
    ),
    "a decay below zero": (
        lambda g: executed(g, "TrainDomainAdapter", weight_decay=[-0.1]),
        "weight_decay is -0.1, but has to be at least 0",
    ),
    "an average of 1": (
        lambda g: g.option("Options", **{**LEARNING, "ema": 1.0}, ranks=""),
        "ema is 1, but can be at most 0.99999: an average of 1 or more never leaves the first weights",
    ),
    **{
        f"{name} below zero": (
            lambda g, name=name: g.option("Options", **{**LEARNING, name: -1}, ranks=""),
            f"{name} .*has to be at least 0",
        )
        for name in ("warmup_steps", "ema", "min_snr_gamma", "noise_offset")
    },
    "no batch to add up": (
        lambda g: g.option("Options", **{**LEARNING, "accumulate": 0}, ranks=""),
        "accumulate .*has to be at least 1",
    ),
    "ranks that are none": (
        lambda g: g.option("Options", **LEARNING, ranks="to_v: many"),
        "ranks of Training Options has 'to_v: many', but needs a part of a layer's name, a colon and a rank",
    ),
    "several intervals": (
        lambda g: g.option("Validation", latents=g.new_latents(), positive=[g.positive], every=[1, 2]),
        "The input every got a list of 2 values, but takes one",
    ),
    "a measurement at no step": (
        lambda g: g.option("Validation", latents=g.new_latents(), positive=[g.positive], every=[0]),
        "every .*has to be at least 1",
    ),
    **{
        f"no {name}": (
            lambda g, name=name: g.option(
                "on Several GPUs", **{"filename_prefix": "x", "gpus": 2, "machines": 1, name: 0}
            ),
            f"{name} .*has to be at least 1",
        )
        for name in ("gpus", "machines")
    },
    **{
        f"no {name}": (
            lambda g, name=name: executed(g, "TrainMotionLoRA", **{name: [0]}),
            f"{name} .*has to be at least 1",
        )
        for name in ("steps", "batch", "rank")
    },
    "checkpoints of no step": (
        lambda g: g.option("Checkpoints", filename_prefix="x", every=0, keep=1, go_on=False, sample=False),
        "every .*has to be at least 1",
    ),
}


@pytest.mark.usefixtures("nothing_unloaded")
@pytest.mark.parametrize("row", NODES)
def test_a_node_refuses(given, row):
    execute, words = NODES[row]
    with torch.inference_mode(), pytest.raises(ValueError, match=words):
        execute(given)
