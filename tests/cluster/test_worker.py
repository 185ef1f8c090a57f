"""A worker without Ray: nothing of it outlives it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from batches import ROOT, STUB

from cluster.server import refusal
from cluster.worker import DONE, SERVED, Installation, Order, Worker

STARTED = """
import sys, time
from cluster.worker import Installation, Worker
worker = Worker(Installation(sys.argv[1], sys.executable), None)
worker.start([])
print(worker.server.process.pid, worker.server.run, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").exists() else True


@pytest.fixture
def worker():
    worker = Worker(Installation(str(STUB), sys.executable), None)
    yield worker
    worker.stop()


def test_a_server_ends_with_a_worker_that_is_killed_and_the_next_worker_cleans_up(worker):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, STUB], env=environment, text=True, stdout=subprocess.PIPE
    )
    pid, run = process.stdout.readline().split()
    assert worker.start([]) == (SERVED, {})
    assert Path(run).is_dir(), "the folder of a worker that lives"
    assert alive(int(pid))
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while alive(int(pid)):
        assert time.monotonic() < deadline, "the server outlived its worker"
        time.sleep(0.05)
    worker.start([])
    assert not Path(run).exists()


def test_a_job_leaves_nothing_in_the_server_s_folders(worker, workflow):
    assert worker.start([])[0] == SERVED
    for attempt in "01":
        workflow["9"]["inputs"]["filename_prefix"] = f"00002-{attempt}/clips/fox"
        outcome = worker.render(Order(workflow, f"00002-{attempt}"))
        assert outcome.status == DONE
        assert list(outcome.files) == ["clips/fox_00001_.json"]
    assert list((worker.server.run / "output").iterdir()) == []
    run = worker.server.run
    worker.stop()
    assert not run.exists()


def test_a_workflow_that_saves_nothing_is_told(worker, workflow):
    del workflow["9"]
    worker.start([])
    assert "needs a Save node" in worker.render(Order(workflow, "00002-0")).error


def test_a_node_that_is_missing_is_named_by_its_class():
    """ComfyUI's own message has the title alone, which the user may have written."""
    error = {"message": "Node 'My own name' not found.", "details": "", "extra_info": {"class_type": "NoSuchNode"}}
    assert refusal({"error": error, "node_errors": {}}) == "NoSuchNode: Node 'My own name' not found."
