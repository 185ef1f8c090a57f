"""benchmarks/two_gpus.py on the CPU: the same path as on two GPUs, with two devices that are one."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "two_gpus.py"
SMALL = ["--device", "cpu", "--pixels", "64", "--frames", "2", "--steps", "2", "--models", "v2"]


@pytest.mark.long  # two UNets in float32 take 16 GB
@pytest.mark.timeout(1000)
def test_prints_its_tables_and_finds_both_alike(host, weights):
    if not (host.path / "comfy" / "multigpu.py").exists():
        pytest.skip("ComfyUI before 0.24 samples on one GPU")
    script = [host.python, SCRIPT, "--comfyui", host.path, "--weights", weights]
    result = subprocess.run([*script, *SMALL], capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    [errors, times] = [line for line in result.stdout.splitlines() if line.startswith("| v2 |")]
    error, equal = [cell.strip() for cell in errors.split("|")[2:4]]
    assert float(error) < 1e-4
    assert equal == "yes"
    assert len(times.split("|")) == 6
    assert "All right." in result.stdout
