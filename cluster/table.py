"""A workflow and a table become jobs: one for each row.

A column is headed NODE.INPUT: the id of a node of the API prompt, or its title, and the name of one of its inputs. Its cells
take the place of the value that the workflow has there; an empty cell leaves that value. NODE.INPUT:file has paths of files,
which are sent along. A column `job` names the jobs. Columns that begin with # are notes.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

SHOWN = 20  # mistakes of one table
NAME = "job"
# A folder name on any system, and nothing that save nodes would replace (%date%).
POSSIBLE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload")  # as ComfyUI marks inputs that are files

Value = str | int | float | bool


class TableError(ValueError):
    """What is wrong with the workflow or the table, a line for each mistake."""


@dataclass(frozen=True)
class Column:
    """``kind`` is that of the workflow's value: text, number or truth; or file."""

    header: str
    node: str
    input: str
    kind: str


@dataclass(frozen=True)
class Job:
    """One row: the ``values`` that it sets, and the ``files`` among them, by column.

    ``key`` says what is rendered: equal for equal workflows, values and contents of files, whatever they are called.
    """

    name: str
    row: int
    key: str
    values: dict[Column, Value]
    files: dict[Column, Path]

    def prompt(self, workflow: dict, uploaded: dict[Column, str], saved_in: str) -> dict:
        """The API prompt, with the names of ``uploaded`` files. All that save nodes write comes into the folder ``saved_in``.

        That gives each job files of its own, numbered from 1, and makes ComfyUI save anew what it has in its cache.
        """
        prompt = copy.deepcopy(workflow)
        for column, value in {**self.values, **uploaded}.items():
            prompt[column.node]["inputs"][column.input] = value
        for node in prompt.values():
            prefix = node["inputs"].get("filename_prefix")
            if isinstance(prefix, str):
                node["inputs"]["filename_prefix"] = f"{saved_in}/{prefix}"
        return prompt


def read_workflow(path: Path) -> dict[str, dict]:
    """An API prompt. Raises TableError for anything else."""
    try:
        workflow = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"The workflow '{path}' cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise TableError(f"The workflow '{path}' is no JSON file: {error}.") from None
    if isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list):
        raise TableError(
            f"'{path}' is a workflow as the editor saves it. Open it in ComfyUI and choose File \u2192 Export (API)."
        )
    nodes = workflow.values() if isinstance(workflow, dict) else [None]
    if not workflow or not all(
        isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs"), dict) for node in nodes
    ):
        raise TableError(f"'{path}' is no API prompt: nodes by id, each with class_type and inputs.")
    return workflow


class Table:
    """The rows of a CSV or Parquet file for ``workflow``; ``constants`` are further columns that are equal in all rows.

    Rows are read one after another, each time anew, so a table may be of any length. Raises TableError.
    """

    def __init__(self, path: Path, workflow: dict[str, dict], constants: dict[str, str] | None = None):
        self.path, self.workflow, self.constants = path, workflow, constants or {}
        headers = self._headers()
        mistakes = [f"Two columns are headed '{name}'." for name in sorted(set(headers)) if headers.count(name) > 1]
        mistakes += [f"--set {name}: the table has this column too." for name in self.constants if name in headers]
        self.columns: dict[str, Column] = {}
        for header in [*headers, *self.constants]:
            if header != NAME and not header.startswith("#"):
                try:
                    self.columns[header] = column_of(header, workflow)
                except TableError as error:
                    mistakes.append(str(error))
        targets = [(column.node, column.input) for column in self.columns.values()]
        mistakes += [
            f"Column '{one.header}': another column sets the same input."
            for one in self.columns.values()
            if targets.count((one.node, one.input)) > 1
        ]
        if mistakes:
            raise TableError("\n".join(mistakes))
        self._workflow_key = digest(workflow)
        self._contents: dict[Path, str] = {}

    def check(self, further: Callable[[Job], list[str]] = lambda job: []) -> int:
        """The number of jobs. Raises TableError with the first mistakes of all rows, and those that ``further`` finds."""
        mistakes, names, keys, count = [], {}, {}, 0
        for job in self._rows(mistakes):
            count += 1
            for seen, value, what in ((names, job.name, "has the name"), (keys, job.key, "is the same job as")):
                if value in seen:
                    of = f" '{job.name}' of" if seen is names else ""
                    hint = (
                        ""
                        if seen is names
                        else ": it would give the same clip. A column for the seed makes them differ"
                    )
                    mistakes.append(f"Row {job.row} {what}{of} row {seen[value]}{hint}.")
                seen[value] = job.row
            mistakes += further(job)
        if len(mistakes) > SHOWN:
            mistakes[SHOWN:] = ["… and maybe more."]
        if not count and not mistakes:
            mistakes = [f"The table '{self.path}' has no rows."]
        if mistakes:
            raise TableError("\n".join(mistakes))
        return count

    def jobs(self) -> Iterator[Job]:
        """The jobs of a table that ``check`` has found right."""
        mistakes: list[str] = []
        yield from self._rows(mistakes)
        if mistakes:
            raise TableError("The table or its files changed during the run.\n" + "\n".join(mistakes))

    def content(self, path: Path) -> str:
        """The SHA-256 of a file, read once."""
        if path not in self._contents:
            content = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    content.update(chunk)
            self._contents[path] = content.hexdigest()
        return self._contents[path]

    def sent_as(self, path: Path) -> str:
        """What a file is called in a server's input folder: no other file is called so."""
        stem = re.sub(r"[^\w-]+", "-", path.stem)[:60]
        return f"{stem}-{self.content(path)[:12]}{path.suffix.lower()}"

    def _rows(self, mistakes: list[str]) -> Iterator[Job]:
        for row, cells in enumerate(self._cells(), 2):  # as spreadsheets count: the header is row 1
            if (found := len(mistakes)) > SHOWN:
                return
            if None in cells:
                mistakes.append(
                    f"Row {row} has more cells than the header. A text with a comma needs quotes around it."
                )
            name = str(cells.get(NAME) or f"{row:05}")
            if not POSSIBLE_NAME.fullmatch(name) or name.endswith("."):
                mistakes.append(
                    f"Row {row}: '{name}' cannot name a job: letters, digits, _ - and . inside, at most 100."
                )
            values, files = {}, {}
            for header, column in self.columns.items():
                cell = cells.get(header, self.constants.get(header))
                if cell is None or cell == "":
                    continue
                try:
                    if column.kind == "file":
                        files[column] = self._file(str(cell))
                    else:
                        values[column] = converted(cell, column.kind)
                except ValueError as error:
                    mistakes.append(f"Row {row}, column '{header}': {error}")
            if len(mistakes) == found:
                yield Job(name, row, self._key(values, files), values, files)

    def _file(self, cell: str) -> Path:
        path = self.path.parent / Path(cell).expanduser()
        if not path.is_file():
            raise ValueError(f"there is no file '{path}'.")
        return path

    def _key(self, values: dict[Column, Value], files: dict[Column, Path]) -> str:
        set_to = {(column.node, column.input): value for column, value in values.items()}
        set_to |= {(column.node, column.input): f"sha256:{self.content(path)}" for column, path in files.items()}
        return digest([self._workflow_key, sorted([*target, value] for target, value in set_to.items())])

    def _headers(self) -> list[str]:
        if self.path.suffix.lower() == ".parquet":
            return self._parquet().schema_arrow.names
        with self._text() as file:
            return next(csv.reader(file, delimiter=self._delimiter()), [])

    def _cells(self) -> Iterator[dict]:
        if self.path.suffix.lower() == ".parquet":
            for batch in self._parquet().iter_batches(1000):
                yield from batch.to_pylist()
            return
        with self._text() as file:
            yield from csv.DictReader(file, delimiter=self._delimiter())

    @contextmanager
    def _text(self) -> Iterator[TextIO]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield file
        except OSError as error:
            raise TableError(f"The table '{self.path}' cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise TableError(f"The table '{self.path}' is not UTF-8. Save it as CSV UTF-8.") from None

    def _delimiter(self) -> str:
        """Spreadsheets write commas, semicolons or tabs, by country and program."""
        with self._text() as file:
            header = file.readline()
        return max(",;\t", key=header.count)

    def _parquet(self):
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise TableError("A table in Parquet needs pyarrow: pip install pyarrow. CSV does without.") from None
        try:
            return parquet.ParquetFile(self.path)
        except (OSError, ArrowException) as error:
            raise TableError(f"The table '{self.path}' cannot be read: {error}.") from None


def column_of(header: str, workflow: dict[str, dict]) -> Column:
    """What a column sets. Raises TableError."""
    target, marked, kind = header.partition(":file")
    if kind:
        raise TableError(f"Column '{header}': nothing comes behind ':file'.")
    if "." not in target:
        raise TableError(
            f"Column '{header}': a column is headed NODE.INPUT, such as sampler.seed; '{NAME}' names jobs, #… is a note."
        )
    # Titles and inputs may have dots of their own.
    cuts = [(target[:at], target[at + 1 :]) for at, character in enumerate(target) if character == "."]
    found = [(node, name) for title, name in cuts for node in nodes_called(title, workflow)]
    if not found:
        raise TableError(
            f"Column '{header}': no node has the id or title '{cuts[-1][0]}'. There are: {known(workflow)}."
        )
    fitting = [(node, name) for node, name in found if name in workflow[node]["inputs"]]
    if not fitting:
        node, name = found[-1]
        raise TableError(
            f"Column '{header}': the node '{node}' ({workflow[node]['class_type']}) has no input '{name}'. "
            f"It has: {', '.join(workflow[node]['inputs'])}."
        )
    if len(fitting) > 1:
        raise TableError(
            f"Column '{header}': that may be {' or '.join(f'{node}.{name}' for node, name in fitting)}. Write the id."
        )
    ((node, name),) = fitting
    value = workflow[node]["inputs"][name]
    if isinstance(value, list):
        raise TableError(
            f"Column '{header}': this input is linked to the node '{value[0]}', so it has no value to set."
        )
    return Column(header, node, name, "file" if marked else kind_of(value))


def nodes_called(name: str, workflow: dict[str, dict]) -> list[str]:
    """The node with this id; else those with this title."""
    if name in workflow:
        return [name]
    return [node for node, content in workflow.items() if content.get("_meta", {}).get("title") == name]


def known(workflow: dict[str, dict]) -> str:
    titles = {node: content.get("_meta", {}).get("title") for node, content in workflow.items()}
    return ", ".join(f"{node} ({title})" if title else node for node, title in titles.items())


def kind_of(value: Value) -> str:
    if isinstance(value, bool):
        return "truth"
    return "number" if isinstance(value, int | float) else "text"


def converted(cell: Value, kind: str) -> Value:
    """A cell as the workflow's value is. Raises ValueError."""
    if kind == "text":
        return str(cell)
    text = str(cell).strip()
    if kind == "truth":
        if text.lower() not in TRUTHS:
            raise ValueError(f"'{cell}' is neither true nor false.")
        return TRUTHS[text.lower()]
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"'{cell}' is no number.")
    return number


def against(interface: dict[str, dict], workflow: dict[str, dict]) -> Callable[[Job], list[str]]:
    """What is wrong with a job for the nodes as a server has them: ``interface`` is its /object_info.

    ComfyUI tells other mistakes itself, but cuts 7.5 steps to 7, and looks for files that nobody has sent.
    """

    def settings(column: Column) -> tuple:
        inputs = interface.get(workflow[column.node]["class_type"], {}).get("input", {})
        kind, *options = inputs.get("required", {}).get(column.input) or inputs.get("optional", {}).get(
            column.input, [None]
        )
        return kind, options[0] if options else {}

    def mistakes(job: Job) -> list[str]:
        found = []
        for column, value in job.values.items():
            kind, options = settings(column)
            if kind == "INT" and value != int(value):
                found.append(f"Row {job.row}, column '{column.header}': '{value}' is no whole number.")
            if any(options.get(name) for name in UPLOADS):
                found.append(
                    f"Row {job.row}, column '{column.header}': '{value}' would not be sent. Files want the heading '{column.header}:file'."
                )
        return found

    return mistakes


def digest(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
