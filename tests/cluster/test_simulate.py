"""The rehearsal that docs/cluster.md has figures of, made small."""

import os
import subprocess
import sys

from batches import ROOT


def test_no_job_is_lost_or_done_twice_when_a_process_with_many_workers_dies():
    command = [sys.executable, "-m", "cluster", "simulate", "--jobs", "120", "--workers", "20", "--processes", "2"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    printed = subprocess.check_output(
        [*command, "--seconds", "0.5", "--kills", "1"], cwd=ROOT, env=environment, text=True
    )
    figures = {
        name: float(value) for _, name, value in (line.split() for line in printed.splitlines() if "figure" in line)
    }
    assert figures["deaths"] > 0
    assert (figures["lost"], figures["twice"], figures["left_for_a_second_start"]) == (0, 0, 0)
