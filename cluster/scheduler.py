"""Jobs to workers, until all have ended.

Ray finds the machines and GPUs, waits for those that its autoscaler starts, and starts workers that died anew, where it
has room. Here is what it cannot know: a job goes to one worker at a time; when that dies, the job goes to the next that is
free; a job that outlives no worker, and a worker that never works, are given up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import ray
from ray.exceptions import RayError

from .table import Job
from .worker import DIED, DONE, FAILED, Order, Outcome

ATTEMPTS = 3  # workers that may die over one job, or deaths of one worker with no job done between
TICK = 10.0  # seconds between two words about progress
STOP = 15.0  # seconds that servers have to end


class NoWorkers(RuntimeError):
    """All workers were given up. The message has the last word of one of them."""


@dataclass
class Task:
    """A job, and what the workers said that died over it."""

    job: Job
    deaths: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Slot:
    """Room for one worker; ``deaths`` since its last job; whether it has ``served`` and lives."""

    actor: ray.actor.ActorHandle
    deaths: int = 0
    served: bool = False


@dataclass
class Summary:
    done: int = 0
    failed: int = 0
    deaths: int = 0
    server_seconds: float = 0.0
    busy_seconds: float = 0.0
    seconds: float = 0.0


class Scheduler:
    """``spawn`` makes an actor; ``order`` what it gets for a job on its n-th attempt; ``ended`` keeps what came of a job.

    ``classes`` are the nodes whose interface ``interface`` is called with, once, before the first job. ``say`` prints a line.
    """

    def __init__(
        self,
        spawn: Callable[[], ray.actor.ActorHandle],
        order: Callable[[Job, int], Order],
        ended: Callable[[Job, Outcome], None],
        *,
        classes: list[str] | None = None,
        interface: Callable[[dict], object] = lambda found: None,
        say: Callable[[str], None] = print,
    ):
        self.spawn, self.order, self.ended = spawn, order, ended
        self.classes, self.interface, self.say = classes or [], interface, say
        self.summary = Summary()
        self.pending: dict[ray.ObjectRef, tuple[Slot, Task | None]] = {}  # None: the worker starts
        self.retries: deque[Task] = deque()
        self.idle: list[Slot] = []
        self.slots: list[Slot] = []
        self.stopping: list[ray.ObjectRef] = []
        self.last_word = ""

    def run(self, jobs: Iterator[Job], workers: int, total: int | None = None) -> Summary:
        """Raises NoWorkers, and whatever ``jobs``, ``interface`` and ``ended`` raise. Memory: one job for each worker."""
        begun = told = time.monotonic()
        self.fresh = jobs
        self.upcoming = next(jobs, None)
        try:
            for _ in range(workers):
                slot = Slot(self.spawn())
                self.slots.append(slot)
                self._start(slot)
            while self.upcoming or self.retries or self._busy():
                if not self.pending:
                    raise NoWorkers(self.last_word)
                for ref in self._ready():
                    self._handle(ref)
                if time.monotonic() - told >= TICK:
                    told = time.monotonic()
                    self.say(self._progress(told - begun, total))
        finally:
            self.summary.seconds = time.monotonic() - begun
            self._stop()
        return self.summary

    def _stop(self) -> None:
        """Let the workers end their servers and clean up; then end them."""
        left = [slot.actor for slot in self.slots]
        for slot in [slot for slot in self.slots if slot.served]:
            self._release(slot)
        if self.stopping:
            ray.wait(self.stopping, num_returns=len(self.stopping), timeout=STOP)
        for actor in left:
            ray.kill(actor)

    def _busy(self) -> int:
        return sum(task is not None for _, task in self.pending.values())

    def _ready(self) -> list[ray.ObjectRef]:
        ready, _ = ray.wait(list(self.pending), timeout=TICK)
        if ready and len(self.pending) > 1:  # all the others that are ready too: to wait for one costs as much
            ready, _ = ray.wait(list(self.pending), num_returns=len(self.pending), timeout=0)
        return ready

    def _handle(self, ref: ray.ObjectRef) -> None:
        slot, task = self.pending.pop(ref)
        try:
            found = ray.get(ref)
        except RayError as error:  # the process or the machine is gone
            word = f"the worker died: {error}"
            found = (DIED, word) if task is None else Outcome(DIED, word)
        if task is None:
            self._started(slot, *found)
        else:
            self._rendered(slot, task, found)

    def _start(self, slot: Slot) -> None:
        # Ray's own retries do for a start, which may be begun any number of times.
        ref = slot.actor.start.options(max_task_retries=ATTEMPTS).remote(self.classes)
        self.pending[ref] = (slot, None)

    def _started(self, slot: Slot, status: str, content) -> None:
        if status == DIED:
            self._died(slot, content)
            return
        slot.served = True
        self.interface(content)
        self.interface = lambda found: None
        self._give_work(slot)

    def _rendered(self, slot: Slot, task: Task, outcome: Outcome) -> None:
        if outcome.status != DIED:
            slot.deaths = 0
            self._give_work(slot)  # before the files are kept: the worker does not wait for our disk
            self._end(task.job, outcome)
            return
        self.summary.deaths += 1
        task.deaths.append(outcome.error)
        if len(task.deaths) < ATTEMPTS:
            self.retries.append(task)
            if self.idle:
                self._give_work(self.idle.pop())
        else:
            self._end(task.job, Outcome(FAILED, f"{ATTEMPTS} workers died over this job. The last: {outcome.error}"))
        self._died(slot, outcome.error)

    def _end(self, job: Job, outcome: Outcome) -> None:
        self.ended(job, outcome)
        if outcome.status == DONE:
            self.summary.done += 1
        else:
            self.summary.failed += 1
            self.say(f"Row {job.row} failed: {outcome.error}")
        self.summary.server_seconds += outcome.seconds
        self.summary.busy_seconds += outcome.busy

    def _died(self, slot: Slot, word: str) -> None:
        self.last_word = word
        slot.deaths += 1
        slot.served = False
        if slot.deaths < ATTEMPTS:
            self.say(f"A worker is started anew: {first_line(word)}")
            self._start(slot)
        else:
            self.say(f"A worker is given up, {ATTEMPTS} deaths without a job done: {first_line(word)}")
            self._release(slot)

    def _give_work(self, slot: Slot) -> None:
        while task := self._next():
            try:
                order = self.order(task.job, len(task.deaths))
            except OSError as error:  # a file of the table has gone
                self._end(task.job, Outcome(FAILED, str(error)))
                continue
            self.pending[slot.actor.render.remote(order)] = (slot, task)
            return
        # As many idle workers stay as there are busy ones, to take over from those that die.
        self.idle.append(slot)
        while len(self.idle) > self._busy():
            self._release(self.idle.pop())

    def _next(self) -> Task | None:
        if self.retries:
            return self.retries.popleft()
        if self.upcoming is None:
            return None
        task, self.upcoming = Task(self.upcoming), next(self.fresh, None)
        return task

    def _release(self, slot: Slot) -> None:
        self.slots.remove(slot)
        if slot.served:
            self.stopping.append(slot.actor.stop.remote())  # with the last handle to it an actor ends, behind its calls

    def _progress(self, seconds: float, total: int | None) -> str:
        ended = self.summary.done + self.summary.failed
        starting = sum(task is None for _, task in self.pending.values())
        line = f"{ended}{f' of {total}' if total else ''} jobs ended, {self.summary.failed} failed; {self._busy()} workers render"
        if starting:
            line += f", {starting} start or wait for a machine"
        if ended and total:
            line += f"; about {(total - ended) * seconds / ended / 60:.0f} min to go"
        return line + "."


def first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
