"""What a batch on a cluster costs beyond the time of its ComfyUI servers.

    python -m nox -s cluster -- benchmark [--jobs 10] [--only stub|toyworld|alone]

Two workers of a Ray cluster on this machine: first with servers that sleep 10 s for each job behind ComfyUI's HTTP interface, then
with real ones that render the toy world. The overhead of a job is the time from the moment when its worker's last job was
in the manifest to the moment when it is itself, less the server's own time by the server's clock. Prints
`figure NAME VALUE LIMIT` in per cent of a 10 s job; exit status 1 if one is above its limit. Last, a server alone that has three jobs
in its queue at once: what ComfyUI itself takes between two of them, which is part of what was measured before.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(ROOT), str(ROOT / "dev")]  # in place of this folder, whose cluster.py is another
from hosts import host, toyworld_models  # noqa: E402
from server import Server  # noqa: E402

from examples import in_toyworld  # noqa: E402

JOB, LIMIT, WORKERS = 10.0, 3.0, 2
SLEEP = {
    "sampler": {"class_type": "Sleep", "inputs": {"seed": 0, "seconds": JOB, "text": ""}},
    "save": {"class_type": "Save", "inputs": {"filename_prefix": "clip", "images": ["sampler", 0]}},
}


def overheads(manifest: Path) -> list[tuple[float, float]]:
    """Seconds beyond the server's own, and those, for each job but the first of each worker, which waits for its server."""
    of_worker = defaultdict(list)
    for record in map(json.loads, manifest.read_text(encoding="utf-8").splitlines()):
        ended = datetime.fromisoformat(record["ended"].replace("Z", "+00:00")).timestamp()
        of_worker[record["worker"]].append((ended, record["seconds"]))
    return [
        (ended - before - seconds, seconds)
        for jobs in of_worker.values()
        for (before, _), (ended, seconds) in itertools.pairwise(jobs)
    ]


def measure(workflow: dict, jobs: int, *options: str) -> list[tuple[float, float]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "workflow.json").write_text(json.dumps(workflow), encoding="utf-8")
        rows = "\n".join(["sampler.seed", *map(str, range(jobs))])
        (Path(folder) / "table.csv").write_text(rows + "\n", encoding="utf-8")
        paths = [str(Path(folder) / name) for name in ("workflow.json", "table.csv", "out")]
        command = [sys.executable, "-m", "cluster", "render", *paths, *options]
        subprocess.run([*command, "--workers", str(WORKERS), "--gpus-per-worker", "0"], cwd=ROOT, check=True)
        return overheads(Path(folder) / "out" / "manifest.jsonl")


def stub(jobs: int) -> list[tuple[float, float]]:
    return measure(SLEEP, jobs, "--comfyui", str(ROOT / "dev" / "stub_comfyui"), "--python", sys.executable)


def real(folder: str) -> Server:
    comfyui = host()
    return Server(comfyui, folder, models=[toyworld_models(comfyui)])


def toyworld(jobs: int) -> list[tuple[float, float]]:
    with tempfile.TemporaryDirectory() as folder:
        server = real(folder)
        server.prepare()
        base = f'--base-directory "{server.run}" --extra-model-paths-config "{server.run / "models.yaml"}"'
        options = ("--comfyui", str(server.path), "--python", str(server.python), "--comfyui-args", base)
        return measure(in_toyworld("txt2vid", cfg=3.0), jobs, *options)


def alone(jobs: int = 3) -> list[float]:
    """Seconds from the end of a job to the beginning of the next one in the queue of one server."""
    with tempfile.TemporaryDirectory() as folder, real(folder) as server:
        ids = [server.submit(in_toyworld("txt2vid", cfg=3.0, seed=seed)) for seed in range(jobs)]
        entries = [server.wait(name) for name in ids]
    at = [{event: data["timestamp"] / 1000 for event, data in entry["status"]["messages"]} for entry in entries]
    return [after["execution_start"] - before["execution_success"] for before, after in itertools.pairwise(at)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--only", choices=("stub", "toyworld", "alone"))
    options = parser.parse_args()
    missed = False
    for name, kind in (("stub", stub), ("toyworld", toyworld)):
        if options.only in (None, name):
            beyond, own = zip(*kind(options.jobs), strict=True)
            print(
                f"{name}: {len(own)} jobs of {statistics.mean(own):.1f} s, {min(beyond):.3f} to {max(beyond):.3f} s beyond",
                flush=True,
            )
            percent = 100 * statistics.mean(beyond) / JOB
            print(f"figure cluster_overhead_{name} {percent:.2f} {LIMIT}", flush=True)
            missed |= percent > LIMIT
    if options.only in (None, "alone"):
        print(f"a server alone, between two jobs: {', '.join(f'{seconds:.3f}' for seconds in alone())} s")
    sys.exit(missed)


if __name__ == "__main__":
    main()
