"""One batch: what is on the command line, into workers, results and a word about how it went."""

from __future__ import annotations

import functools
import importlib
import logging
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ray

from .results import Results
from .scheduler import Scheduler, Summary
from .table import Job, Table, TableError, against, read_workflow
from .worker import DONE, Installation, Order, Outcome, Worker

# For a cluster that ends with this command; one that is there already has its own.
LOCAL = {"include_dashboard": False, "object_store_memory": 1 << 30}
FILES_KEPT = 4  # of the table, in Ray's memory beyond those of the jobs under way


@dataclass(frozen=True)
class Batch:
    """``workers``: None is one for each ``gpus`` of the cluster; ``cpus`` of each are its threads.

    ``shared``: all machines see the folder of results.
    """

    workflow: Path
    table: Path
    results: Path
    installation: Installation
    workers: int | None = None
    gpus: float = 1.0
    cpus: float = 1.0
    address: str | None = None
    constants: dict[str, str] = field(default_factory=dict)
    retry_failed: bool = False
    shared: bool = False
    timeout: float = 3600.0


def render(batch: Batch) -> Summary | None:
    """Render what is left to do. None: nothing was. Raises TableError, NoWorkers, OSError."""
    workflow = read_workflow(batch.workflow)
    table = Table(batch.table, workflow, batch.constants)
    with Results(batch.results) as results:
        total = table.check(results.mistakes)
        left = sum(1 for _ in results.to_do(table.jobs(), batch.retry_failed))
        failed = sum(record["status"] != DONE for record in results.records.values())
        print(f"{total} jobs, {left} to render.", flush=True)
        if failed and not batch.retry_failed:
            print(f"{failed} failed in an earlier run; --retry-failed renders them again.")
        if not left:
            return None
        with ray_cluster(batch.address, (batch.workers or 1) * batch.cpus):
            scheduler = Scheduler(
                spawn(batch),
                Orders(batch, workflow, table, results),
                functools.partial(keep, results),
                classes=sorted({workflow[column.node]["class_type"] for column in table.columns.values()}),
                interface=lambda found: table.check(against(found, workflow)),
                say=functools.partial(print, flush=True),
            )
            return scheduler.run(
                results.to_do(table.jobs(), batch.retry_failed), min(left, number_of_workers(batch)), left
            )


@contextmanager
def ray_cluster(address: str | None, cpus: float) -> Iterator[None]:
    """Connected to the cluster at ``address``; None: that of RAY_ADDRESS, else one on this machine, while this lasts.

    On this machine it has room for ``cpus`` at least: workers that wait for their GPU share cores.
    """
    package = importlib.import_module(__package__)
    ray.cloudpickle.register_pickle_by_value(package)  # so that workers need no copy of this repository
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    there = address or os.environ.get("RAY_ADDRESS")
    local = {} if there else {**LOCAL, "num_cpus": max(os.cpu_count() or 1, math.ceil(cpus))}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.WARNING, **local)
        # A job scheduler's polite end is the same as Ctrl-C; Ray has just set a handler of its own.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        yield
    finally:
        ray.shutdown()
        ray.cloudpickle.unregister_pickle_by_value(package)


def number_of_workers(batch: Batch) -> int:
    """Raises TableError where there can be none."""
    if batch.workers is not None:
        return batch.workers
    if not batch.gpus:
        raise TableError("--workers: how many? Without GPUs (--gpus-per-worker 0) it has to be said.")
    gpus = ray.cluster_resources().get("GPU", 0)
    if gpus < batch.gpus:
        raise TableError(
            f"Ray finds {gpus:g} GPUs here, and a worker wants {batch.gpus:g}. For a cluster that grows by itself say "
            "--workers N; for a machine without GPU --workers N --gpus-per-worker 0."
        )
    return int(gpus / batch.gpus)


def spawn(batch: Batch):
    # A second thread, so that a worker that renders can be stopped.
    actor = ray.remote(Worker).options(num_cpus=batch.cpus, num_gpus=batch.gpus, max_restarts=-1, max_concurrency=2)
    return lambda: actor.remote(batch.installation, ray.get)


class Orders:
    """What workers get for the jobs of a batch."""

    def __init__(self, batch: Batch, workflow: dict, table: Table, results: Results):
        self.batch, self.workflow, self.table, self.results = batch, workflow, table, results
        self.sent = functools.lru_cache(FILES_KEPT)(lambda path, content: ray.put(path.read_bytes()))

    def __call__(self, job: Job, attempt: int) -> Order:
        """Raises OSError where a file of the table cannot be read any more."""
        uploaded, inputs = {}, {}
        for column, path in job.files.items():
            content = self.table.content(path)
            uploaded[column] = self.table.sent_as(path)
            inputs[uploaded[column]] = self.sent(path, content)  # Ray takes it to each machine once
        saved_in = f"{job.name}-{attempt}"
        into = str(self.results.unfinished(saved_in)) if self.batch.shared else None
        return Order(job.prompt(self.workflow, uploaded, saved_in), saved_in, inputs, into, self.batch.timeout)


def keep(results: Results, job: Job, outcome: Outcome) -> None:
    facts = {"seconds": round(outcome.seconds, 3), "worker": outcome.worker}
    if outcome.status == DONE:
        results.finish(job, outcome.files if outcome.into is None else Path(outcome.into), **facts)
    else:
        results.fail(job, outcome.error, **facts)
