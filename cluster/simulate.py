"""A rehearsal without ComfyUI: the same table, scheduler and results, and Ray; only the workers sleep in place of rendering.

A process holds many workers, so one machine can rehearse hundreds of GPUs; killing it is what the loss of a whole
machine is. Prints `figure NAME VALUE`; exit status 1 if a job was lost or done twice.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import ray

from .render import Batch, Orders, keep, ray_cluster
from .results import Results
from .scheduler import Scheduler
from .table import Table
from .worker import DONE, SERVED, Installation, Order, Outcome

WORKFLOW = {
    "sampler": {"class_type": "Sleep", "inputs": {"seed": 0, "seconds": 1.0, "text": ""}},
    "save": {"class_type": "Save", "inputs": {"filename_prefix": "clip", "images": ["sampler", 0]}},
}
CLIP = bytes(200_000)  # a short clip


class Sleeper:
    """What a Worker is to the scheduler."""

    def start(self, classes: list[str]) -> tuple[str, dict]:
        return SERVED, {}

    def render(self, order: Order) -> Outcome:
        seconds = order.prompt["sampler"]["inputs"]["seconds"]
        time.sleep(seconds)
        return Outcome(DONE, files={"clip_00001_.webp": CLIP}, seconds=seconds, busy=seconds)

    def stop(self) -> None:
        """Others share the process."""


def simulate(jobs: int, workers: int, processes: int, seconds: float, kills: int) -> int:
    print(
        f"{jobs} jobs of about {seconds:g} s for {workers} workers: {jobs * seconds / workers:.0f} s or more.",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        chance = random.Random(0)
        lengths = [seconds * chance.uniform(0.8, 1.2) for _ in range(jobs)]
        rows = [f'{i},{length:.3f},"a clip, number {i}"' for i, length in enumerate(lengths)]
        path.write_text("\n".join(["sampler.seed,sampler.seconds,sampler.text", *rows]) + "\n", encoding="utf-8")
        batch = Batch(Path(), path, Path(folder) / "out", Installation(""))
        with ray_cluster(None, processes):
            figures = rehearse(batch, jobs, workers, processes, kills, sum(lengths))
    for name, value in figures.items():
        print(f"figure {name} {value:.6g}")
    return 1 if figures["lost"] or figures["twice"] else 0


def rehearse(
    batch: Batch, jobs: int, workers: int, processes: int, kills: int, render_seconds: float
) -> dict[str, float]:
    table = Table(batch.table, WORKFLOW)
    actor = ray.remote(Sleeper).options(num_cpus=1, max_restarts=-1, max_concurrency=-(-workers // processes))
    actors = [actor.remote() for _ in range(processes)]
    ray.get([one.start.remote([]) for one in actors])
    ideal = render_seconds / workers
    # Spread over the run; what a killed process was rendering is done again.
    killers = [
        threading.Timer(ideal * (i + 1) / (kills + 1), ray.kill, (actors[i % processes],), {"no_restart": False})
        for i in range(kills)
    ]
    turn = itertools.cycle(actors)
    with Results(batch.results) as results:
        begun = time.monotonic()
        total = table.check(results.mistakes)
        checked = time.monotonic() - begun
        scheduler = Scheduler(
            lambda: next(turn),
            Orders(batch, WORKFLOW, table, results),
            lambda *of: keep(results, *of),
            say=lambda line: None,  # hundreds of workers share a death
        )
        for killer in killers:
            killer.start()
        cpu = time.process_time()
        summary = scheduler.run(results.to_do(table.jobs(), False), workers, total)
        cpu = time.process_time() - cpu
        for killer in killers:
            killer.cancel()
    lines = [json.loads(line) for line in results.manifest.read_text(encoding="utf-8").splitlines()]
    done = Counter(line["job"] for line in lines if line["status"] == DONE)
    with Results(batch.results) as again:
        left = sum(1 for _ in again.to_do(table.jobs(), False))
    return {
        "jobs": jobs,
        "workers": workers,
        "check_seconds": checked,
        "run_seconds": summary.seconds,
        "ideal_seconds": ideal,
        "deaths": summary.deaths,
        "driver_cpu_ms_per_job": 1000 * cpu / jobs,
        "driver_peak_mib": peak_mib(),
        "lost": jobs - len(done),
        "twice": sum(count > 1 for count in done.values()),
        "left_for_a_second_start": left,
    }


def peak_mib() -> float:
    """The highest memory of this process; nan where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
