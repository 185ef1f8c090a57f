"""A workflow and tables for the stub of ComfyUI."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from batches import WORKFLOW

# Clusters of tests are reached from this machine only; whether a token lies in the home folder must not matter.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray kills workers while a machine's memory is nearly full, whoever fills it: tests would count deaths that they did not cause.
os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 - Ray spells it so
# Shells start what runs in the background with Ctrl+C ignored, which the commands that the tests start would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def workflow() -> dict:
    """Without a picture: one that is not sent would fail."""
    return {name: node for name, node in json.loads(json.dumps(WORKFLOW)).items() if name != "picture"}


@pytest.fixture
def write_table(tmp_path) -> Callable[..., Path]:
    def write(*rows: dict, name: str = "table.csv", delimiter: str = ",") -> Path:
        path = tmp_path / name
        headers = list(dict.fromkeys(header for row in rows for header in row))
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, headers, delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write
