"""A clip for each row of a table, made by ComfyUI servers that are running. Only Python's standard library is needed.

    python examples/queue_batch.py workflow.json table.csv OUT
    python examples/queue_batch.py workflow.json table.csv OUT --server http://one:8188 --server http://two:8188

workflow.json is an API prompt: File > Export (API) in ComfyUI. A column of the table is headed NODE.INPUT, such as
sampler.seed or positive.text, or NODE.INPUT:file, whose cells are files to send along (docs/cluster.md, "The table").
OUT gets a folder for each row. The same command, started again, goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]
from comfyui_client import Failed, Lost, Server, title  # noqa: E402

from cluster.job_folder import UNFINISHED, finish, inside, read_record, record_of, write  # noqa: E402
from cluster.server import failure, files_of, seconds  # noqa: E402
from cluster.table import Job, Table, TableError, against, read_workflow  # noqa: E402

HERE = "http://127.0.0.1:8188"
ATTEMPTS = 3  # of a job whose server was lost


class Display:
    """A line for each thing that happens, and on a terminal one below them that says how far the servers are."""

    def __init__(self):
        self.lock = threading.Lock()
        self.places: dict[str, str] = {}
        self.live = sys.stdout.isatty()

    def say(self, text: str, server: str | None = None) -> None:
        with self.lock:
            self.places.pop(server, None)
            print(f"\r\033[K{text}" if self.live else text, flush=True)
            self._draw()

    def at(self, server: str, place: str) -> None:
        with self.lock:
            self.places[server] = place
            self._draw()

    def _draw(self) -> None:
        if self.live:
            line = "   ".join(f"{server.partition('//')[2]}: {place}" for server, place in self.places.items())
            print(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)


class Jobs:
    """The jobs that are left, for several threads; one that is handed back goes to whoever is free next."""

    def __init__(self, jobs: Iterable[Job]):
        self.left = deque(jobs)
        self.busy = 0
        self.changed = threading.Condition()
        self.lost: dict[str, int] = {}

    def take(self) -> Job | None:
        """None: nothing is left, and nobody is at work who may hand something back."""
        with self.changed:
            while not self.left and self.busy:
                self.changed.wait()
            if not self.left:
                return None
            self.busy += 1
            return self.left.popleft()

    def end(self, hand_back: Job | None = None) -> bool:
        """To be called for each job that was taken. False: it has been handed back too often, and is not tried again."""
        with self.changed:
            self.busy -= 1
            if hand_back:
                self.lost[hand_back.name] = self.lost.get(hand_back.name, 0) + 1
                if self.lost[hand_back.name] < ATTEMPTS:
                    self.left.appendleft(hand_back)
            self.changed.notify_all()
            return hand_back is None or hand_back in self.left

    def drop(self) -> None:
        with self.changed:
            self.left.clear()
            self.changed.notify_all()


class Batch:
    """The rows of ``table`` that have no folder in ``out`` yet."""

    def __init__(self, workflow: dict, table: Table, out: Path, patience: float):
        self.workflow, self.table, self.out, self.patience = workflow, table, out, patience
        self.unfinished = out / UNFINISHED / uuid.uuid4().hex
        self.display = Display()
        self.done = self.failed = 0
        self.stopped = False
        self.problem: OSError | None = None  # with files on this side

    def mistakes(self, job: Job) -> list[str]:
        """What is wrong with a job's folder that is there already."""
        folder = self.out / job.name
        if not folder.exists():
            return []
        if (record := read_record(folder)) is None:
            return [f"Row {job.row}: '{folder}' is there and is no result. Choose another folder."]
        if record["key"] != job.key:
            return [
                f"Row {job.row}: '{folder}' was made with another workflow or other values. Choose another folder for the "
                "results, or remove that one to have the row made anew."
            ]
        return []

    def run(self, servers: list[Server]) -> None:
        """Each server has a thread of its own. Raises KeyboardInterrupt, and OSError of files on this side."""
        self.jobs = Jobs(job for job in self.table.jobs() if not (self.out / job.name).exists())
        self.display.say(f"{len(self.jobs.left)} jobs to do, {len(servers)} servers.")
        threads = [threading.Thread(target=self.work, args=(server,), daemon=True) for server in servers]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # with an end, so that Ctrl-C comes through
        except KeyboardInterrupt:
            self.stopped = True
            self.jobs.drop()
            for server in servers:
                server.stop()
            for thread in threads:
                thread.join(2.0)  # so that no prompt is queued behind our back
            raise
        finally:
            shutil.rmtree(self.unfinished, ignore_errors=True)
        if self.problem:
            raise self.problem

    def work(self, server: Server) -> None:
        while job := self.jobs.take():
            lost = None
            try:
                began = time.monotonic()
                files = self.make(server, job)
                self.done += 1
                self.display.say(f"{job.name}: {', '.join(files)} ({time.monotonic() - began:.0f} s)", server.url)
            except Failed as failed:
                self.fail(job, str(failed), server)
            except Lost as error:
                lost = job
                self.display.say(f"{job.name}: {error}", server.url)
            except OSError as problem:
                self.problem = problem
                self.jobs.drop()
            except (ValueError, KeyError, TypeError) as error:
                self.fail(job, f"the server's answer was not as ComfyUI's are: {error!r}", server)
            if not self.jobs.end(lost):
                self.fail(job, f"its server was lost {ATTEMPTS} times.", server)
            if lost and not server.comes_back(self.patience):
                self.display.say(f"{server.url} is given up.")
                return

    def fail(self, job: Job, why: str, server: Server) -> None:
        if self.stopped:
            return
        self.failed += 1
        self.display.say(f"{job.name} (row {job.row}) failed: {why}", server.url)

    def make(self, server: Server, job: Job) -> list[str]:
        """Have a job done, and its files in its folder; returns their names. Raises Lost, Failed, OSError."""
        names = {column: self.table.sent_as(path) for column, path in job.files.items()}
        for column, path in job.files.items():
            server.upload(path, names[column])
        saved_in = f"queue_batch/{job.name}-{uuid.uuid4().hex[:8]}"  # among the server's files, a folder of its own
        prompt = job.prompt(self.workflow, names, saved_in)
        entry = server.run(prompt, lambda place: self.display.at(server.url, f"{job.name}, {place}"))
        if entry["status"]["status_str"] != "success":
            raise Failed(failure(entry))
        found: dict[str, dict] = {}  # some nodes name a file twice
        stays = []  # such as a model, which is saved among the server's models
        for item in files_of(entry):
            name = f"{item['subfolder']}/{item['filename']}".replace("\\", "/").lstrip("/").removeprefix(f"{saved_in}/")
            if item["type"] == "output":
                found[name] = item
            elif item["type"] != "temp":  # a preview
                stays.append(f"{item['type']}/{name}")
        if not found and not stays:
            raise Failed("the workflow saved no file. Put a Save node at its end and export it anew.")
        unfinished = self.unfinished / job.name
        unfinished.mkdir(parents=True)
        for name, item in found.items():
            write(unfinished / inside(name), server.download(item))
        record = record_of(job, "done", seconds=round(seconds(entry), 3), worker=server.url, stays=sorted(set(stays)))
        return finish(unfinished, self.out / job.name, record)["files"]


def usable(servers: list[Server], workflow: dict, display: Display) -> tuple[list[Server], dict[str, dict]]:
    """The servers that answer and have all nodes, and what these nodes take. What is wrong with the others is told."""
    classes = sorted({node["class_type"] for node in workflow.values()})
    fit, interface = [], {}
    for server in servers:
        try:
            found = server.interface(classes)
        except (Lost, Failed) as error:
            display.say(
                f"{error} Start ComfyUI there (with --listen, if it is another machine), or name another --server."
            )
            continue
        lacking = [node for node, content in workflow.items() if content["class_type"] not in found]
        if lacking:
            names = ", ".join(f'{node} "{title(node, workflow)}" ({workflow[node]["class_type"]})' for node in lacking)
            display.say(
                f"{server.url} lacks nodes of the workflow: {names}. Install their packs there, and restart it."
            )
            continue
        fit.append(server)
        interface = interface or found
    return fit, interface


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("workflow", type=Path, help="API prompt: File > Export (API) in ComfyUI")
    add("table", type=Path, help="CSV; columns are headed NODE.INPUT or NODE.INPUT:file")
    add("out", type=Path, help="folder for the results")
    add("--server", action="append", default=[], metavar="URL", help=f"may be repeated; without it {HERE}")
    add("--patience", type=float, default=60, metavar="SECONDS", help="of waiting for a server that was lost (60)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    urls = [url if "://" in url else f"http://{url}" for url in chosen.server or [HERE]]
    try:
        workflow = read_workflow(chosen.workflow)
        table = Table(chosen.table, workflow)
        batch = Batch(workflow, table, chosen.out, chosen.patience)
        table.check(batch.mistakes)
        servers, interface = usable([Server(url) for url in dict.fromkeys(urls)], workflow, batch.display)
        if not servers:
            raise TableError("There is no server to work with.")
        table.check(against(interface, workflow))
        batch.run(servers)
    except TableError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"{error}. The same command goes on from here.", file=sys.stderr)
        return 1
    left = f", {len(batch.jobs.left)} left: there is no server any more" if batch.jobs.left else ""
    print(f"{batch.done} done, {batch.failed} failed{left}. {chosen.out}")
    return 1 if batch.failed or left else 0


if __name__ == "__main__":
    raise SystemExit(main())
