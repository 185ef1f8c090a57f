"""Trainings that end early, and those that go on from what was trained before."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from animatediff_tests_training import assert_same_lora, out_of_memory, stop


def test_stopping_returns_what_was_trained(train_lora, in_step):
    """The host raises Stop out of any of its layers: the step at hand is dropped, the weights before it are kept."""
    import comfy.model_management

    in_step(3, stop)
    lora, record = train_lora(steps=10)
    assert record.steps == 2
    assert "stopped" in record.ended_early
    assert lora.metadata["animatediff.steps"] == "2"
    assert not comfy.model_management.processing_interrupted()  # the nodes that save the result still run
    assert_same_lora(lora, train_lora(steps=2)[0])


def test_stopping_before_the_first_step_is_done_is_no_failure(train_lora, in_step, pack):
    in_step(1, stop)
    with pytest.raises(pack.submodule("host.training").Stopped):
        train_lora()


def test_nan_keeps_the_last_weights_whose_loss_was_good(train_lora, in_step):
    """The second step made the weights that give NaN in the third, so it is undone."""
    in_step(3, lambda loss: loss * float("nan"))
    lora, record = train_lora(steps=5)
    assert record.steps == 1
    assert lora.metadata["animatediff.steps"] == "1"
    assert "NaN" in record.ended_early
    assert_same_lora(lora, train_lora(steps=1)[0])


def test_what_a_too_high_learning_rate_leaves_can_be_trained_on(train_lora, training, new_latents):
    one = new_latents(1)  # with another clip the weights may give NaN
    lora, record = train_lora(steps=5, learning_rate=3e3, latents=one)
    assert 1 <= record.steps < 4
    assert_same_lora(lora, train_lora(steps=record.steps, learning_rate=3e3, latents=one)[0])
    unchanged, again = train_lora(steps=1, resume=lora, learning_rate=1e-12, latents=one)
    assert again.steps == 1
    for name, pair in lora.pairs.items():
        torch.testing.assert_close(unchanged.pairs[name], pair, rtol=1e-6, atol=1e-9)
    with pytest.raises(training("trainer").TrainingFailed, match="Lower learning_rate"):
        train_lora(steps=5, learning_rate=1e20)


def test_running_out_of_memory_keeps_what_was_trained(train_lora, in_step):
    in_step(3, out_of_memory)
    lora, record = train_lora(steps=5)
    assert record.steps == 2
    assert "memory" in record.ended_early
    assert_same_lora(lora, train_lora(steps=2)[0])


def test_running_out_of_memory_in_the_first_step_says_what_to_do(train_lora, training, in_step):
    in_step(1, out_of_memory)
    with pytest.raises(
        training("trainer").TrainingFailed,
        match=r"memory ran out\. .*gradient_checkpointing on, or lower batch, frames",
    ):
        train_lora()


def test_a_preview_that_fails_does_not_end_the_training(train_lora, training, monkeypatch, caplog):
    monkeypatch.setattr(training("unet").TrainingUNet, "draw", out_of_memory)
    lora, record = train_lora(steps=3, preview_every=1)
    assert record.steps == 3
    assert caplog.text.count("Training goes on without previews") == 1
    assert_same_lora(lora, train_lora(steps=3)[0])


def test_stopping_one_kind_of_training_lets_the_others_be(pack):
    nodes = pack.submodule("nodes.training")
    record = pack.submodule("training.trainer").TrainingRecord([1.0], "it was stopped")
    kinds = (nodes.TrainMotionLoRA, nodes.TrainMotionModule)

    def fingerprints():
        return [kind.PREPARE_CLASS_CLONE(None).fingerprint_inputs() for kind in kinds]  # clones, as the host does

    lora, module = fingerprints()
    nodes.TrainMotionLoRA.PREPARE_CLASS_CLONE(None).trained(lambda node_id: (None, record))
    assert fingerprints() == [lora + 1, module]


def test_the_memory_of_a_training_is_given_back_at_once(
    pack, training, animated, new_latents, positive, negative, settings, monkeypatch
):
    networks = []
    network = training("unet").TrainingUNet
    prepare = network.prepare
    monkeypatch.setattr(
        network, "prepare", lambda self, *_: networks.append(weakref.ref(self.base)) or prepare(self, *_)
    )
    node = pack.submodule("nodes.training").TrainMotionLoRA.PREPARE_CLASS_CLONE(None)
    data = {"latents": new_latents(), "positive": [positive], "negative": negative, "settings": settings()}
    gc.disable()
    try:
        with torch.inference_mode():
            node.trained(training("motion_lora").train_motion_lora, model=animated(), **data, rank=4, alpha=4.0)
        assert networks[0]() is None
    finally:
        gc.enable()


def test_nan_in_the_first_step_is_an_error_that_says_what_to_do(train_lora, training, monkeypatch):
    monkeypatch.setitem(training("objectives").OBJECTIVES, "epsilon", lambda p, *_: p.mean() * float("nan"))
    with pytest.raises(training("trainer").TrainingFailed, match="learning_rate"):
        train_lora()


def test_a_motion_lora_is_resumed_where_it_was(train_lora):
    first, _ = train_lora(steps=2, alpha=2.0)
    resumed, record = train_lora(steps=1, resume=first, alpha=2.0, rank=32, learning_rate=1e-12, weight_decay=0.0)
    assert resumed.rank == 4  # of the MotionLoRA, not of the node
    assert resumed.metadata["animatediff.steps"] == "3"
    assert record.steps == 1
    for name, (down, up) in first.pairs.items():
        torch.testing.assert_close(resumed.pairs[name][0], down)
        torch.testing.assert_close(resumed.pairs[name][1], up)


def test_a_motion_module_is_trained_on_from_a_loaded_one(train_module, new_motion):
    start = new_motion()
    patcher, _ = train_module(start=start, steps=1, learning_rate=1e-12, weight_decay=0.0)
    for name, value in start.model.state_dict().items():
        torch.testing.assert_close(patcher.model.state_dict()[name], value)
    assert patcher.model is not start.model


def test_a_trained_motion_module_can_be_applied_twice(train_module, animate, new_model, sample):
    patcher, _ = train_module()
    once = sample(animate(new_model(), patcher, scale=1.0))
    twice = sample(animate(new_model(), patcher, patcher))
    assert not torch.equal(once, twice)
