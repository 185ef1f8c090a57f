"""benchmarks/gpu_check.py on the CPU: the same path as on a GPU, without dynamic VRAM."""

import subprocess
from pathlib import Path

import pytest
import torch
from animatediff_dev_pack import import_script

ROOT = Path(__file__).parents[2]
SMALL = ["--device", "cpu", "--pixels", "64", "--frames", "2", "--steps", "2", "--models", "v2"]


def run(host, weights, *arguments) -> subprocess.CompletedProcess:
    script = [host.python, ROOT / "benchmarks" / "gpu_check.py", "--comfyui", host.path, "--weights", weights]
    return subprocess.run([*script, *SMALL, *arguments], capture_output=True, text=True, timeout=500)


def test_prints_its_table_and_finds_everything_right(host, weights):
    result = run(host, weights)
    assert result.returncode == 0, result.stdout + result.stderr
    [row] = [line for line in result.stdout.splitlines() if line.startswith("| off | v2 |")]
    error, plain_error, animated_equal, plain_equal = [cell.strip() for cell in row.split("|")[3:7]]
    assert float(error) < 0.01
    assert float(plain_error) < 0.01
    assert (animated_equal, plain_equal) == ("yes", "yes")
    assert "All right." in result.stdout


@pytest.fixture
def gpu_check():
    return import_script("animatediff_gpu_check", ROOT / "benchmarks" / "gpu_check.py")


@pytest.mark.parametrize(
    ("latent", "equal", "plain_equal", "wrong"),
    [
        (torch.ones(4) * 1.001, True, True, False),
        (torch.tensor([1.0, -1.0, 1.0, -1.0]), True, True, True),  # noise
        (torch.full((4,), torch.nan), True, True, True),  # a black picture
        (torch.ones(4), False, True, True),  # the second run differs: a schedule that leaked
        (torch.ones(4), True, False, True),  # the plain checkpoint differs after an animated run
    ],
)
def test_sees_what_users_of_today_report(gpu_check, capsys, latent, equal, plain_equal, wrong):
    exact = {name: gpu_check.Run(torch.ones(4), True, True, 1.0, 0) for name in ("plain", "v2")}
    half = {**exact, "v2": gpu_check.Run(latent, equal, plain_equal, 1.3, 0)}
    assert gpu_check.report("on", half, exact) is wrong
    assert "| on | v2 |" in capsys.readouterr().out
