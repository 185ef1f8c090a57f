"""Graphs that somebody's trial found faulty, each with what is right."""

from __future__ import annotations

import itertools
import logging

import pytest
import torch
from animatediff_faults_bad_inputs import ADVICE, INTERNALS
from animatediff_faults_parts import Parts
from animatediff_faults_reliability import REPORTED
from animatediff_faults_running import node_classes, output
from animatediff_faults_stand_ins import CALLS, VALUES, carried

pytestmark = pytest.mark.trial(REPORTED)
RUNS = itertools.count()


@pytest.fixture
def run(prompts):
    """`run(make)`: what the graph that ``make(g)`` builds gives, and how often the UNet was called."""

    def run(make, *args):
        graph = Parts(salt=f"case {next(RUNS)}")
        make(graph, *args)
        before = CALLS.unet
        return prompts.run(graph), CALLS.unet - before

    return run


@pytest.fixture
def latents(run):
    return lambda make, *args: run(make, *args)[0].value["samples"]


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def close(found: torch.Tensor, expected: torch.Tensor, most: float = 1e-4) -> bool:
    return ((found - expected).norm() / expected.norm()).item() < most


def refused_in_words(outcome, calls: int, *words: str) -> bool:
    """False if it was not refused at all; anything but a good refusal fails."""
    if not outcome.refused:
        return False
    assert not INTERNALS.search(outcome.message), outcome.message
    assert ADVICE.search(outcome.message), outcome.message
    assert all(word.lower() in outcome.message.lower() for word in words), outcome.message
    assert calls == 0
    return True


def part(g: Parts, frames: int, start: int, length: int):
    """Some frames of an empty clip, whose noise is theirs in the whole clip."""
    return g("LatentFromBatch", samples=g("TinyLatent", frames=frames), batch_index=start, length=length)


# Nodes that remember something from one UNet call to the next.


def easycache(g: Parts, frames: int, start: int, length: int, cfg: float = 1.0, texts: bool = False):
    # EasyCache reckons its percents with the schedule that the run before left, so all runs have that of the checkpoint
    model = g.animate(context_options=g("ADE_BatchedContextOptions"), beta_schedule="use existing")
    model = g("EasyCache", model=model, reuse_threshold=1.0, start_percent=0.1)
    conds = {}
    if texts:
        prompts = g("ADE_PromptScheduling", prompts='"0:": "a red circle", "4:": "a blue square"', max_length=frames)
        conds["positive"] = (
            g("ADE_ConditionExtraction", conditioning=prompts, index=start) if length < frames else prompts
        )
    g.sample(model, latent_image=part(g, frames, start, length), steps=8, cfg=cfg, **conds)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("texts", [False, True], ids=["one prompt", "two prompts"])
def test_easycache_in_windows_equals_each_window_alone(run, texts, cfg):
    together, calls = run(easycache, 8, 0, 8, cfg, texts)
    alone = [run(easycache, 8, start, 4, cfg, texts) for start in (0, 4)]
    assert calls == sum(own for _, own in alone), "the same steps are skipped"
    assert calls < 8 * len(alone), "some are"
    expected = torch.cat([outcome.value["samples"] for outcome, _ in alone])
    assert close(together.value["samples"], expected)


def test_easycache_in_uneven_windows_runs(run):
    together, calls = run(easycache, 7, 0, 7)
    alone = [run(easycache, 7, *window) for window in ((0, 4), (4, 3))]
    assert calls < 8 * len(alone)
    assert close(together.value["samples"], torch.cat([outcome.value["samples"] for outcome, _ in alone]))


def test_easycache_in_windows_that_overlap_skips(run):
    def graph(g: Parts, cached: bool):
        model = g.animate(context_options=g("ADE_StandardStaticContextOptions"))
        model = g("EasyCache", model=model, reuse_threshold=1.0, start_percent=0.1) if cached else model
        g.sample(model, steps=8, cfg=3.0)

    (cached, calls), (plain, all_calls) = run(graph, True), run(graph, False)
    assert 0 < calls < all_calls
    assert cached.value["samples"].isfinite().all()
    assert not torch.equal(cached.value["samples"], plain.value["samples"])


@pytest.mark.parametrize("context", ["ADE_StandardStaticContextOptions", "ADE_BatchedContextOptions"])
def test_self_attention_guidance_in_windows_is_right_or_refused(run, context):
    def graph(g: Parts, frames: int, start: int, length: int):
        model = g("SelfAttentionGuidance", model=g.animate(context_options=g(context)))
        g.sample(model, latent_image=part(g, frames, start, length))

    together, calls = run(graph, 8, 0, 8)
    if not refused_in_words(together, calls, "Self-Attention Guidance"):
        alone = [run(graph, 8, start, 4)[0].value["samples"] for start in (0, 4)]
        assert close(together.value["samples"], torch.cat(alone))


# torch.compile, in whatever order.


def test_compiled_models_equal_those_that_are_not(latents, run):
    """With the backend that runs what was traced: the compiler itself would take minutes."""
    import torch._dynamo

    def graph(g: Parts, name: str, compiled: bool):
        ranges = {"whole range": {}, "a fifth": {"start_percent": 0.0, "end_percent": 0.2}}
        frames = 5 if name == "another length" else 4
        model = g("TinyModel")
        if name != "plain":
            model = g.animate(m_models=g.apply(**ranges.get(name, {})))
        if compiled:
            model = g("TorchCompileModel", model=model, backend=carried(g, "eager", "eager"))
        g.sample(model, latent_image=g("TinyLatent", frames=frames), steps=4)

    torch._dynamo.reset()
    try:
        names = ("whole range", "a fifth", "plain", "another length", "whole range")
        eager = {name: latents(graph, name, False) for name in names}
        assert not close(eager["a fifth"], eager["whole range"], 1e-2)
        for name in names:
            assert close(latents(graph, name, True), eager[name], 1e-3), name
    finally:
        torch._dynamo.reset()


# UNet calls that the pack did not make itself.


@pytest.mark.parametrize(
    "motion_models", [("negative",), ("positive", "negative"), ("positive", "positive", "negative")]
)
def test_another_model_for_the_negative_prompt(run, motion_models):
    def graph(g: Parts, motion_models):
        models = {}
        for seed, side in enumerate(("positive", "negative")):
            applied = None
            for i in range(motion_models.count(side)):
                ranged = {"prev_m_models": applied} if i else {}
                applied = g.apply("v2.safetensors" if i == 0 else "v1.safetensors", **ranged)
            model = g("TinyModel", seed=seed)
            models[side] = g.animate(model, m_models=applied, beta_schedule="sqrt_linear (AnimateDiff)")
        guider = g(
            "DualModelGuider", model=models["positive"], model_negative=models["negative"], negative=g("TinyCond")
        )
        sigmas = g("BasicScheduler", model=models["positive"])
        sampler = g("KSamplerSelect")
        g.keep(g("SamplerCustomAdvanced", noise=g("RandomNoise"), guider=guider, sampler=sampler, sigmas=sigmas))

    outcome, _ = run(graph, motion_models)
    if outcome.refused:  # the positive model may have run by then
        assert refused_in_words(outcome, 0, "model")
    else:
        assert outcome.value["samples"].isfinite().all()


@pytest.mark.parametrize("frames", [4, 6])
@pytest.mark.parametrize("motion_model", ["v2.safetensors", "v1.safetensors"])
def test_tiles_in_one_call_equal_tiles_one_by_one(latents, motion_model, frames):
    def graph(g: Parts, motion_model, frames, together):
        model = g("Tiles", model=g.animate(m_models=g.apply(motion_model)), together=together)
        g.sample(model, latent_image=g("TinyLatent", frames=frames))

    assert close(latents(graph, motion_model, frames, True), latents(graph, motion_model, frames, False))


# What takes effect in silence, or none.


def test_an_old_loader_without_its_optional_input_says_how_it_runs(run, warnings):
    """v2 models as v1 models run: what API prompts of 2023 get, and what wears a shape down."""

    def graph(g: Parts, properly):
        # a scale of its own: what another test had the host remember says nothing again
        g.sample(g("ADE_AnimateDiffLoaderWithContext", apply_v2_models_properly=properly, motion_scale=1.01))

    assert not run(graph, True)[0].refused
    assert not [line for line in warnings() if "apply_v2_models_properly" in line]
    assert not run(graph, None)[0].refused
    assert [line for line in warnings() if "apply_v2_models_properly" in line]


def test_free_noise_in_a_closed_loop_is_as_good_at_the_seam_or_told(run, warnings):
    """FreeNoise gives a window no noise twice; over the seam of a loop a window may have some."""
    length = 8

    def graph(g: Parts):
        settings = g("ADE_AnimateDiffSamplingSettings", noise_type="FreeNoise")
        context = g("ADE_LoopedUniformContextOptions", closed_loop=True, context_length=length, context_overlap=4)
        model = g("Watched", model=g.animate(context_options=context, sample_settings=settings), name="seam")
        g.sample(model, latent_image=g("TinyLatent", frames=12), steps=1)

    assert not run(graph)[0].refused
    windows = [given[:length] for given in VALUES.pop("seam")]
    assert len(windows) > 2
    twice = [window for window in windows if len(window.flatten(1).unique(dim=0)) < length]
    assert not twice or [line for line in warnings() if "FreeNoise" in line and "closed_loop" in line]


def test_which_of_two_kinds_of_windows_count_is_told(run, warnings):
    def graph(g: Parts):
        model = g.animate(context_options=g("ADE_StandardStaticContextOptions"))
        g.sample(g("ContextWindowsManual", model=model, causal_window_fix=False, context_schedule="batched"), steps=5)

    assert not run(graph)[0].refused
    assert len([line for line in warnings() if "Context Windows" in line]) == 1


def test_control_nets_follow_the_windows_of_the_host(latents, run):
    def graph(g: Parts, start: int, length: int):
        pictures = g("ImageFromBatch", image=g("TinyPictures", frames=8), batch_index=start, length=length)
        conds = g("ControlNetApplyAdvanced", image=pictures, positive=g("TinyCond"))
        windows = {
            "causal_window_fix": False,
            "context_schedule": "batched",
            "context_overlap": 0,
            "fuse_method": "flat",
        }
        model = g("ContextWindowsManual", model=g.animate(), **windows)
        latent = part(g, 8, start, length)
        g.sample(model, positive=conds, negative=output(conds, 1), latent_image=latent, steps=7)

    alone = torch.cat([latents(graph, start, 4) for start in (0, 4)])
    assert close(latents(graph, 0, 8), alone)


def test_a_noise_schedule_that_has_no_effect_is_told(run, warnings):
    def graph(g: Parts):
        g.sample(g.animate(g("ModelSamplingDiscrete", sampling="v_prediction", zsnr=True)))

    assert not run(graph)[0].refused
    assert [line for line in warnings() if "ModelSamplingDiscrete" in line or "noise schedule" in line]


def test_the_hosts_training_on_an_animated_model_is_right_or_refused(run):
    inputs = node_classes()["TrainLoraNode"].INPUT_TYPES()["required"]

    def graph(g: Parts, animated: bool):
        model = g.animate() if animated else g("TinyModel")
        more = {"existing_lora": "[None]"} if "existing_lora" in inputs else {}
        values = {"batch_size": 1, "rank": 2, "steps": 1, "learning_rate": 0.01, "seed": 3, **more}
        g.keep(g("TrainLoraNode", model=model, latents=g("TinyLatent", frames=2), **values))

    plain, _ = run(graph, False)
    assert not plain.refused, plain.message
    animated, calls = run(graph, True)
    if not refused_in_words(animated, calls, "MODEL"):
        made, expected = animated.kept["value"], plain.kept["value"]
        assert made.keys() == expected.keys()
        assert all(torch.equal(made[name], expected[name]) for name in made)
