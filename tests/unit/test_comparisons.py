"""A run that should compare fails when it did not compare all there is (tests/comparisons.py)."""

import os
import subprocess
import sys

import pytest
from animatediff_dev_pack import ROOT

TESTS = """
import pytest

NAMES = {names}

@pytest.mark.compares("latents", NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_latent(name, compared):
    if name in {without_evidence}:
        pytest.skip("there is nothing to compare with")
    compared(name)

def test_something_else():
    pass
"""


@pytest.fixture
def run(tmp_path):
    def run(*arguments: str, names=("a", "b"), without_evidence=()) -> subprocess.CompletedProcess:
        (tmp_path / "test_latents.py").write_text(TESTS.format(names=list(names), without_evidence=without_evidence))
        command = [sys.executable, "-m", "pytest", "-p", "comparisons", "-p", "no:cacheprovider", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_the_number_of_comparisons_is_said_last(run):
    result = run()
    assert result.returncode == 0
    *_, count, summary = result.stdout.splitlines()
    assert count == "2 of 2 latents compared"
    assert "3 passed" in summary


@pytest.mark.parametrize(
    ("arguments", "found", "said"),
    [
        ([], {"without_evidence": ["b"]}, "1 of 2 latents compared\nFAILED: not all latents were compared: b"),
        ([], {"names": []}, "0 of 0 latents compared\nFAILED: not all latents were compared"),
        (["--deselect", "test_latents.py::test_latent"], {}, "0 of 2 latents compared\nFAILED"),
        (["--compare", "interfaces"], {}, "FAILED: not all interfaces were compared: no test that compares them"),
        (["--compare", "latents", "--ignore", "test_latents.py"], {}, "0 of 0 latents compared\nFAILED"),
    ],
)
def test_what_was_not_compared_fails_the_run(run, arguments, found, said):
    result = run(*arguments, **found)
    assert result.returncode == 1
    assert said in result.stdout


@pytest.mark.parametrize("picked", [["-k", "a"], ["test_latents.py::test_something_else"]])
def test_whoever_picks_tests_may_compare_fewer(run, picked):
    assert run(*picked).returncode == 0


def test_processes_count_together(run):
    """Each of the two compares one."""
    result = run("-n", "2")
    assert result.returncode == 0
    assert result.stdout.splitlines()[-2] == "2 of 2 latents compared"
    result = run("-n", "2", without_evidence=["b"])
    assert result.returncode == 1
    assert "1 of 2 latents compared\nFAILED: not all latents were compared: b" in result.stdout
