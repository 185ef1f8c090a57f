"""docs/adding-a-feature.md does what it says: its three files, in a copy of the pack, are all that it takes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "adding-a-feature.md"
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "weights", "reference", "docs", "example_workflows")


def test_the_page_adds_a_feature(host, tmp_path):
    copy = tmp_path / "pack"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    files = re.findall(r"^`([\w/]+\.py)`[^\n]*\n\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert [name for name, _ in files] == [
        "sampling/print_sigmas.py",
        "nodes/print_sigmas.py",
        "tests/host/test_print_sigmas.py",
    ]
    for name, text in files:
        assert not (copy / name).exists()
        (copy / name).write_text(text, encoding="utf-8")
    tests = [files[-1][0], "tests/unit/test_architecture.py::test_no_import_cycles"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--comfyui", host.version, *tests],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "2 passed" in result.stdout
    for command in ("check", "format --check"):
        names = [name for name, _ in files]
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *command.split(), *names], cwd=copy, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout
