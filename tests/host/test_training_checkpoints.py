"""What Training Checkpoints saves, and training that goes on from it."""

from __future__ import annotations

import csv
import errno
import os

import pytest
import torch
from animatediff_tests_training import assert_same_lora, stop
from PIL import Image

LIBRARIES = {"Lion": "lion_pytorch", "Prodigy": "prodigyopt", "AdamW schedule-free": "schedulefree"}


def without(library: str) -> None:
    if library in LIBRARIES:
        pytest.importorskip(LIBRARIES[library], reason=f"needs {LIBRARIES[library]} (requirements-dev.txt)")


# -- going on -----------------------------------------------------------------------------------------------------------

GOING_ON = {
    "AdamW": {},
    "Adam": {"optimizer": "Adam"},
    "RMSprop": {"optimizer": "RMSprop"},
    "SGD": {"optimizer": "SGD", "learning_rate": 1.0},
    "Lion": {"optimizer": "Lion"},
    "Prodigy": {"optimizer": "Prodigy", "learning_rate": 1.0},
    "AdamW schedule-free": {"optimizer": "AdamW schedule-free"},
    "an average": {"ema": 0.8},
    "all at once": {
        "ema": 0.8,
        "accumulate": 2,
        "min_snr_gamma": 5.0,
        "noise_offset": 0.1,
        "batch": 2,
        "noise_pairs": True,
        "objective": "appearance-debiased",
    },
}


@pytest.mark.parametrize("name", GOING_ON)
def test_three_steps_and_three_more_are_six_bit_for_bit(train_lora, options, checkpoint_files, new_latents, name):
    without(name)
    # of four clips, so that three steps end in the middle of an epoch
    changes = {"latents": new_latents(4), **GOING_ON[name]}
    also = {key: changes.pop(key) for key in ("ema", "accumulate", "min_snr_gamma", "noise_offset") if key in changes}
    whole, expected = train_lora(steps=6, options=options(**also), **changes)
    train_lora(steps=3, options=options({"every": 3}, **also), **changes)
    assert checkpoint_files("*.state") == ["training_00001_step000003.state"]
    lora, record = train_lora(steps=6, options=options({"every": 3, "go_on": True}, **also), **changes)
    assert record.losses == expected.losses
    assert_same_lora(lora, whole)
    assert lora.metadata["animatediff.steps"] == "6"
    assert checkpoint_files("*.state") == ["training_00001_step000003.state", "training_00001_step000006.state"]


def test_after_a_stop_training_goes_on_where_it_was(train_lora, options, in_step, checkpoint_files):
    """With a learning rate that falls and one that rises: both are those of the whole training."""
    also = {"learning_rate_schedule": "cosine"}
    whole, expected = train_lora(steps=5, options=options(warmup_steps=2), **also)
    in_step(4, stop)
    train_lora(steps=5, options=options({"every": 2}, warmup_steps=2), **also)
    assert checkpoint_files("*.state")[-1] == "training_00001_step000003.state"  # the last step, whenever one is due
    lora, record = train_lora(steps=5, options=options({"go_on": True}, warmup_steps=2), **also)
    assert record.losses == expected.losses
    assert record.rates == expected.rates
    assert_same_lora(lora, whole)


@pytest.mark.parametrize("train", ["train_module", "train_adapter"])
def test_modules_and_adapters_go_on_too(request, options, train):
    run = request.getfixturevalue(train)

    def tensors(result):
        return result.model.state_dict() if train == "train_module" else result

    whole, expected = run(steps=4)
    run(steps=2, options=options({}))
    again, record = run(steps=4, options=options({"go_on": True}))
    assert record.losses == expected.losses
    for name, value in tensors(whole).items():
        assert torch.equal(tensors(again)[name], value), name


def test_a_training_that_is_done_has_nothing_to_go_on_with(train_lora, options):
    first, expected = train_lora(steps=2, options=options({}))
    again, record = train_lora(steps=2, options=options({"go_on": True}))
    assert record.losses == expected.losses
    assert_same_lora(again, first)


def test_without_a_checkpoint_training_begins_anew(train_lora, options, caplog):
    caplog.set_level("INFO")
    lora, _ = train_lora(steps=2, options=options({"go_on": True}))
    assert "no checkpoint yet" in caplog.text
    assert_same_lora(lora, train_lora(steps=2)[0])


def test_a_longer_name_is_another_training(train_lora, options, checkpoint_files):
    train_lora(steps=2, options=options({"prefix": "training_of_foxes"}))
    _, record = train_lora(steps=3, options=options({"go_on": True, "every": 3}))
    assert record.steps == 3
    assert checkpoint_files("*.state") == [
        "training_00001_step000003.state",
        "training_of_foxes_00001_step000002.state",
    ]


def test_a_checkpoint_that_was_cut_off_is_passed_over(train_lora, options, checkpoint_files, checkpoint_path, caplog):
    whole, _ = train_lora(steps=4)
    train_lora(steps=3, options=options({"every": 1}))
    last = checkpoint_path("training_00001_step000003.state")
    with open(last, "r+b") as file:
        file.truncate(os.path.getsize(last) // 2)
    lora, record = train_lora(steps=4, options=options({"every": 1, "go_on": True}))
    assert "cannot be read" in caplog.text
    assert record.steps == 4
    assert_same_lora(lora, whole)
    torch.load(last, weights_only=True)  # written anew


def test_with_other_clips_a_new_epoch_begins(train_lora, options, new_latents, caplog):
    train_lora(steps=3, latents=new_latents(40), options=options({}))
    _, record = train_lora(steps=6, latents=new_latents(2, seed=8), options=options({"go_on": True}))
    assert record.steps == 6
    assert "clips " in caplog.text


def test_other_settings_are_told_and_trained_with(train_lora, options, caplog):
    train_lora(steps=2, options=options({}))
    _, record = train_lora(steps=4, learning_rate=5e-3, options=options({"go_on": True}))
    assert record.rates == [1e-2, 1e-2, 5e-3, 5e-3]
    assert "learning_rate 0.01 → 0.005" in caplog.text


# -- checkpoints --------------------------------------------------------------------------------------------------------


def test_checkpoints_are_whole_files_and_no_more_than_asked_for(
    train_lora, options, checkpoint_files, checkpoint_path, pack
):
    lora, _ = train_lora(steps=5, options=options({"every": 1, "keep": 2, "clip": True}, ema=0.5))
    steps = ("training_00001_step000004", "training_00001_step000005")
    endings = (".safetensors", ".state", ".webp")
    assert checkpoint_files("*step*") == [f"{step}{ending}" for step in steps for ending in endings]
    assert set(checkpoint_files("*")) - set(checkpoint_files("*step*")) <= {
        "training_00001_log.csv",
        "training_00001_tensorboard",
    }
    # the weights are those that are handed on: the average
    saved = pack.submodule("lora.motion_lora").read_motion_lora(checkpoint_path(f"{steps[1]}.safetensors"))
    for name, pair in lora.pairs.items():
        for half, expected in zip(saved.pairs[name], pair, strict=True):
            torch.testing.assert_close(half.float(), expected, rtol=1e-3, atol=1e-4)
    with Image.open(checkpoint_path(f"{steps[1]}.webp")) as sample:
        assert sample.n_frames == 4
        assert sample.size == (32, 32)


def test_a_sample_is_decoded_where_there_is_a_vae(train_lora, options, checkpoint_path):
    class Vae:
        def decode(self, latents):
            assert latents.shape == (4, 4, 8, 8)
            return torch.rand(4, 64, 64, 3)

    train_lora(steps=2, options=options({"clip": True, "vae": Vae()}))
    with Image.open(checkpoint_path("training_00001_step000002.webp")) as sample:
        assert sample.size == (64, 64)


def test_a_sample_that_fails_does_not_end_the_training(train_lora, options, checkpoint_files, caplog):
    class Vae:
        def decode(self, latents):
            raise RuntimeError("no decoder")

    _, record = train_lora(steps=3, options=options({"every": 1, "clip": True, "vae": Vae()}))
    assert record.steps == 3
    assert caplog.text.count("A sample failed") == 1
    assert len(checkpoint_files("*.state")) == 3


@pytest.mark.parametrize("watched", [{}, {"preview_every": 1}])
def test_checkpoints_and_samples_change_nothing_about_the_training(train_lora, options, watched):
    plain, _ = train_lora(steps=3)
    lora, _ = train_lora(steps=3, options=options({"every": 1, "clip": True}), **watched)
    assert_same_lora(lora, plain)


def test_a_full_disk_keeps_the_last_checkpoint(train_lora, options, checkpoint_files, monkeypatch, caplog):
    save, calls = torch.save, []

    def full(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments, **keywords)

    monkeypatch.setattr(torch, "save", full)
    lora, record = train_lora(steps=4, options=options({"every": 1, "keep": 1}))
    assert record.steps == 4
    assert caplog.text.count("the disk is full") == 2
    assert "the last checkpoint is step 2" in caplog.text
    assert checkpoint_files("*step*") == ["training_00001_step000002.safetensors", "training_00001_step000002.state"]
    monkeypatch.undo()
    again, _ = train_lora(steps=4, options=options({"every": 1, "go_on": True}))
    assert_same_lora(again, lora)


def test_a_checkpoint_of_weights_that_give_nan_is_removed(train_lora, options, in_step, checkpoint_files):
    in_step(3, lambda loss: loss * float("nan"))
    _, record = train_lora(steps=5, options=options({"every": 1}))
    assert record.steps == 1
    assert checkpoint_files("*.state") == ["training_00001_step000001.state"]


def test_the_log_has_every_step(train_lora, options, checkpoint_path):
    train_lora(steps=3, options=options({"every": 2}))
    _, record = train_lora(steps=5, options=options({"every": 2, "go_on": True}))
    with open(checkpoint_path("training_00001_log.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5]
    assert [float(row["loss"]) for row in rows] == record.losses


def test_tensorboard_reads_the_event_log(train_lora, options, checkpoint_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard: pip install tensorboard"
    )
    _, record = train_lora(steps=3, options=options({}))
    found = event_accumulator.EventAccumulator(checkpoint_path("training_00001_tensorboard"))
    found.Reload()
    assert [event.step for event in found.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in found.Scalars("loss")] == pytest.approx(record.losses)
