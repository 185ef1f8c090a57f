"""The numbers of docs/reliability.md: counted by a run of all tests here, and compared with the page by the next one."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- counted -->\n", "<!-- /counted -->\n"
# What went wrong when it was first tried, before any of it was put right: names by group.
FIRST_RUN: dict[str, list[str]] = json.loads((HERE / "first_run.json").read_text(encoding="utf-8"))
INJECTIONS, STATE, REPORTED = "faults injected", "prompts in random order", "reported cases"
AT_LEAST = {INJECTIONS: 54, STATE: 60, REPORTED: 10, "bad inputs": 200}


def counts(tally) -> dict[str, int]:
    of_group = {group: len(names) for group, names in tally.tried.items()}
    known = {group: of_group.pop(group, 0) for group in (INJECTIONS, STATE, REPORTED)}
    return {**known, "bad inputs": sum(of_group.values())}


def line(tally) -> str:
    injections, runs, cases, inputs = counts(tally).values()
    return f"{injections} injections, {runs} state runs, {cases} reported cases, {inputs} bad inputs"


def table(tally) -> str:
    """Markdown: per group how many were tried, wrong when first tried, and wrong now."""
    rows = []
    for group, tried in tally.tried.items():
        first = len(tried & set(FIRST_RUN.get(group, ())))
        rows.append((group, len(tried), first, len(tally.failed.get(group, ()))))
    rows.append(("**together**", *(sum(row[column] for row in rows) for column in (1, 2, 3))))
    head = ["| what | tried | wrong when first tried | wrong now |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def write(tally) -> None:
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table(tally)}{END}{rest.split(END)[1]}", encoding="utf-8")


def problems(tally) -> list[str]:
    found = [
        f"{count} {what} were tried, at least {AT_LEAST[what]} should be"
        for what, count in counts(tally).items()
        if count < AT_LEAST[what]
    ]
    if table(tally) not in PAGE.read_text(encoding="utf-8"):
        found.append(f"{PAGE.name} has other numbers than these: run again with --write-numbers")
    return found
