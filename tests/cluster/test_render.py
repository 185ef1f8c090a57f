"""Two workers of a real Ray cluster of two nodes, with a stub of ComfyUI behind its real HTTP interface."""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable

import pytest
from batches import WORKFLOW, Batch
from ray.cluster_utils import Cluster


@pytest.fixture(scope="module")
def nodes():
    """Each has room for one worker; the driver's has none."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 200 << 20, "include_dashboard": False},
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=200 << 20)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def batch(nodes, tmp_path, workflow, write_table) -> Callable[..., Batch]:
    def make(*rows: dict, workflow=workflow) -> Batch:
        (tmp_path / "workflow.json").write_text(json.dumps(workflow))
        write_table(*rows)
        return Batch(tmp_path, nodes.address)

    return make


def seeds(count: int, seconds: float = 0.1, **more) -> list[dict]:
    return [{"3.seed": str(seed), "3.seconds": str(seconds), **more} for seed in range(count)]


def until(condition: Callable[[], object], timeout: float = 60):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def done_once(batch: Batch, count: int) -> bool:
    ended = Counter(line["job"] for line in batch.manifest() if line["status"] == "done")
    folders = {path.name for path in batch.out.iterdir() if path.is_dir()}
    names = {f"{row:05}" for row in range(2, count + 2)}
    assert ended == Counter(names)
    assert folders == names
    assert [batch.saved(f"{seed + 2:05}")["3.seed"] for seed in range(count)] == list(range(count))
    return True


def servers_of(pid: int | None = None) -> list[int]:
    """The stub's processes, of one worker or of all."""
    listed = subprocess.check_output(["ps", "-ww", "-eo", "pid=,ppid=,args="], text=True).splitlines()
    found = [line.split(None, 2) for line in listed]
    return [int(one) for one, parent, args in found if "comfyui-worker-" in args and pid in (None, int(parent))]


def worker_pid(batch: Batch) -> int:
    """Of the worker that finished a job last."""
    return int(until(batch.manifest)[-1]["worker"].rsplit(":", 1)[1])


def test_a_table_is_rendered_by_two_workers(batch):
    rendered = batch(*seeds(6))
    assert "6 done, 0 failed" in rendered.run()
    assert done_once(rendered, 6)
    assert len({line["worker"] for line in rendered.manifest()}) == 2
    assert all(line["seconds"] >= 0.09 and line["files"] == ["clips/fox_00001_.json"] for line in rendered.manifest())
    assert until(lambda: not servers_of())
    assert "0 to render" in rendered.run()


def test_files_of_the_table_are_sent_and_do_not_pile_up(batch, tmp_path):
    rows = []
    for seed in range(3):
        (tmp_path / f"{seed}").mkdir()
        (tmp_path / f"{seed}" / "same name.PNG").write_bytes(b"%d" % seed * 200_000)
        rows.append({"3.seed": str(seed), "picture.image:file": f"{seed}/same name.PNG"})
    rendered = batch(*rows, workflow=WORKFLOW)
    rendered.run()
    for seed in range(3):
        saved = rendered.saved(f"{seed + 2:05}")
        assert saved["picture.image"] == hashlib.sha256(b"%d" % seed * 200_000).hexdigest()
        (only,) = saved["inputs"]
        assert only.startswith("same-name-")


def test_a_worker_is_killed_and_its_job_done_by_another(batch):
    rendered = batch(*seeds(10, 0.5))
    process = rendered.start()
    pid = worker_pid(rendered)
    (server,) = servers_of(pid)
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: server not in servers_of()), "the server outlived its worker"
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert "A worker is started anew" in printed
    assert done_once(rendered, 10)


def test_a_machine_is_lost(batch, nodes):
    rendered = batch(*seeds(10, 0.5))
    process = rendered.start()
    until(lambda: len({line["worker"] for line in rendered.manifest()}) == 2)
    nodes.remove_node(sorted(nodes.worker_nodes, key=lambda node: node.node_ip_address)[0], allow_graceful=False)
    try:
        printed, _ = process.communicate(timeout=200)
    finally:
        nodes.add_node(num_cpus=1, object_store_memory=200 << 20)
    assert process.returncode == 0, printed
    assert done_once(rendered, 10)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda kind: kind.name)
def test_a_run_that_is_stopped_goes_on_where_it_was(batch, kind):
    rendered = batch(*seeds(8, 1.0))
    process = rendered.start()
    until(lambda: len(rendered.manifest()) >= 3)
    process.send_signal(kind)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == (-kind if kind == signal.SIGKILL else 130), printed
    assert until(lambda: not servers_of())
    finished = len(rendered.manifest())
    assert 3 <= finished < 8
    assert f"{8 - finished} to render" in rendered.run()
    assert done_once(rendered, 8)


def test_a_job_that_fails_by_its_own_fault_fails_alone(batch):
    rendered = batch(*seeds(3), {"3.seed": "90", "3.text": "refused"}, {"3.seed": "91", "3.then": "raise"})
    printed = rendered.run(code=1)
    assert "3 done, 2 failed" in printed
    errors = {line["job"]: line["error"] for line in rendered.manifest() if line["status"] == "failed"}
    assert errors == {
        "00005": "Prompt outputs failed validation\n3 (Sleep): Value not in list: text: 'refused' not in []",
        "00006": "sampler (Sleep): RuntimeError: raised, as it was told",
    }
    assert "2 failed in an earlier run" in rendered.run()
    assert len(rendered.manifest()) == 5
    assert "0 done, 2 failed" in rendered.run("--retry-failed", code=1)


def test_a_job_that_no_server_survives_is_given_up(batch):
    rendered = batch({"3.seed": "90", "3.then": "die"}, *seeds(6, 0.5))
    assert "6 done, 1 failed" in rendered.run(code=1)
    (failed,) = [line for line in rendered.manifest() if line["status"] == "failed"]
    assert failed["error"].startswith("3 workers died over this job.")
    assert "the stub dies, as it was told" in failed["error"]


def test_a_job_that_hangs_is_given_up(batch):
    rendered = batch({"3.seed": "90", "3.seconds": "100"}, *seeds(2))
    assert "2 done, 1 failed" in rendered.run("--timeout", "1", code=1)
    (failed,) = [line for line in rendered.manifest() if line["status"] == "failed"]
    assert "did not finish within 1.0 s" in failed["error"]


def test_workers_write_into_a_shared_folder(batch):
    rendered = batch(*seeds(4))
    rendered.run("--shared")
    assert done_once(rendered, 4)


def test_nothing_is_rendered_where_the_table_does_not_fit_the_nodes(batch):
    rendered = batch({"3.seed": "1"}, {"3.seed": "2.5"})
    assert "Row 3, column '3.seed': '2.5' is no whole number." in rendered.run(code=2)
    assert rendered.manifest() == []


def test_machines_without_comfyui(batch, tmp_path):
    rendered = batch(*seeds(2))
    assert f"there is no ComfyUI in '{tmp_path}'" in rendered.run("--comfyui", str(tmp_path), code=1)
    assert rendered.manifest() == []


def test_a_server_that_does_not_start(batch, tmp_path):
    (tmp_path / "main.py").write_text("raise SystemExit('no CUDA here')")
    rendered = batch(*seeds(2))
    assert "no CUDA here" in rendered.run("--comfyui", str(tmp_path), code=1)
