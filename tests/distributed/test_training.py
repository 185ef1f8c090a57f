"""Two processes train as one does with the batch of both: gradients, steps, checkpoints; and what ends one ends both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from animatediff_tests_scenarios import KINDS, SCENARIOS

PROCESSES = 2
WORKER = Path(__file__).with_name("worker.py")
GRADIENTS = [name for name in SCENARIOS if name.startswith("gradient")]
STEPS = [name for name in SCENARIOS if name.startswith(("six steps", "validation"))]
LIKE = 1e-6  # relative


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def assert_same(found: dict, expected: dict) -> None:
    """Weights, losses and gradient norms of two trainings.

    All weights together: AdamW makes whole steps of gradients that are little more than rounding, which a tensor alone may have.
    """
    assert "error" not in found, found
    assert found["tensors"].keys() == expected["tensors"].keys()
    one, other = (
        torch.cat([result["tensors"][name].flatten() for name in expected["tensors"]]) for result in (found, expected)
    )
    assert relative(one, other) < LIKE
    assert found["losses"] == pytest.approx(expected["losses"], rel=LIKE)
    assert found["norms"] == pytest.approx(expected["norms"], rel=LIKE)


def assert_equal(found: dict, other: dict) -> None:
    assert found["losses"] == other["losses"]
    for name, tensor in other["tensors"].items():
        assert torch.equal(found["tensors"][name], tensor), name


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_gradient_is_that_of_one_process_with_the_whole_batch(alone, together, name):
    expected = alone.of(name)["gradient"]
    assert expected.norm() > 0
    for rank in range(PROCESSES):
        assert relative(together.of(name, rank)["gradient"], expected) < LIKE


@pytest.mark.parametrize("name", STEPS)
def test_the_steps_are_those_of_one_process_too(alone, together, name):
    expected = alone.of(name)
    assert_same(together.of(name), expected)
    assert_equal(together.of(name, 1), together.of(name))


def test_the_first_process_measures_what_one_measures(alone, together):
    for name in ("validation", "validation of a module"):
        expected = alone.of(name)["validation"]
        assert list(expected) == [1, 2, 3]
        assert together.of(name)["validation"] == pytest.approx(expected, rel=LIKE)
        assert together.of(name, 1)["validation"] == {}


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_begins_and_two_go_on(alone, together, kind):
    found = together.of(f"second half of growing {kind}")
    assert len(found["losses"]) == 6
    assert found["losses"][:3] == alone.of(f"first half of growing {kind}")["losses"]
    assert_same(found, alone.of(f"six steps of a {kind}"))


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_begin_and_one_goes_on(alone, together, alone_again, kind):
    found = alone_again.of(f"second half of shrinking {kind}")
    assert len(found["losses"]) == 6
    assert found["losses"][:3] == together.of(f"first half of shrinking {kind}")["losses"]
    assert_same(found, alone.of(f"six steps of a {kind}"))


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_with_as_many_processes_changes_nothing(together, kind):
    assert_equal(together.of(f"second half of keeping {kind}"), together.of(f"six steps of a {kind}"))


def test_a_batch_that_cannot_be_shared_is_refused(together):
    for rank in range(PROCESSES):
        assert together.of("a batch of three", rank)["error"] == (
            "TrainingFailed: batch is 3, but 2 processes share it, each with as many clips as the others. Set batch to a multiple of 2."
        )


def test_other_clips_in_one_process_are_refused(together):
    for rank in range(PROCESSES):
        error = together.of("other clips", rank)["error"]
        assert error.startswith(
            "TrainingDataError: The processes have different clips: process 1 has 2, process 0 has 3"
        )


@pytest.mark.parametrize("kind", ["lora", "module"])
def test_nan_in_one_process_takes_the_step_back_in_all(alone, together, kind):
    """The second step made the weights that give NaN in the third."""
    for rank in range(PROCESSES):
        found = together.of(f"NaN in a {kind}", rank)
        assert "NaN" in found["ended_early"]
        assert_same(found, alone.of(f"one step of a {kind}"))


@pytest.mark.parametrize("name", ["memory runs out in a lora", "memory runs out in the first process"])
def test_memory_that_runs_out_in_one_process_ends_all(alone, together, name):
    for rank in range(PROCESSES):
        found = together.of(name, rank)
        assert found["ended_early"] == "memory ran out"
        assert_same(found, alone.of("two steps of a lora"))


def test_without_its_part_of_the_weights_all_processes_end(launch, host, base, tmp_path):
    name = "memory runs out in a module"
    done = launch(WORKER, "--raise", host.path, base, tmp_path, name, several=True)
    assert done.returncode != 0
    assert "Memory ran out in one of the processes that have parts of the weights" in done.stdout


@pytest.mark.parametrize(
    ("name", "kind", "steps"),
    [
        ("stop in a lora", "lora", "two steps"),
        # there the step at hand is ended first
        ("stop in a module", "module", "three steps"),
        # validated is behind the third step
        ("stop in the validation of a lora", "lora", "three steps"),
        ("stop in the validation of a module", "module", "three steps"),
    ],
)
def test_stop_in_one_process_ends_all(alone, together, name, kind, steps):
    for rank in range(PROCESSES):
        found = together.of(name, rank)
        assert found["ended_early"] == "it was stopped"
        assert_same(found, alone.of(f"{steps} of a {kind}"))


def test_what_was_trained_is_saved_whichever_process_heard_of_the_stop_first(alone, together):
    """A signal comes to each process at its own time. One that comes late must not stop what saves the result."""
    for rank in range(PROCESSES):
        found = together.of("stop in both processes", rank)
        assert found["ended_early"] == "it was stopped"
        assert not found["interrupted"]
        assert_same(found, alone.of("two steps of a lora"))


def test_of_a_motion_module_each_process_holds_a_part(alone, together):
    whole = alone.of("numbers of a module")
    for name, count in whole.items():
        parts = [together.of("numbers of a module", rank)[name] for rank in range(PROCESSES)]
        assert sum(parts) == count
        assert max(parts) < 0.51 * count
    for rank in range(PROCESSES):
        assert together.of("numbers of a lora", rank) == alone.of("numbers of a lora")


def test_the_first_process_writes_and_no_other(together):
    names = ["files_00001_log.csv"]
    names += [f"files_00001_step{step:06}{ending}" for step in (2, 3) for ending in (".safetensors", ".state", ".webp")]
    found = together.of("files")
    assert sorted(name for name in found["files"] if "tensorboard" not in name) == sorted(names)
    assert len(found["written"]) == 2 * 3  # a sample and a state of each step
    assert together.of("files", 1)["written"] == []
