"""A comparison with tests/reference is complete, or the run fails: a pytest plugin.

``@pytest.mark.compares("reference latents", names)`` says what a test compares and the names of all there is of it. The test
calls its fixture ``compared(name)`` once it has both sides in hand. Where such tests are collected, or pytest is told
``--compare "reference latents"``, all names must have been compared at the end; how many were is said right before pytest's
own last line. Only whoever picks tests (``-k``, ``FILE::TEST``, ``--last-failed``) may compare fewer. Where pytest-xdist
spreads the tests over processes, they count together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest


@dataclass
class Comparison:
    names: set[str] = field(default_factory=set)
    compared: set[str] = field(default_factory=set)

    def complete(self) -> bool:
        return bool(self.names) and self.compared == self.names


Comparisons = dict[str, Comparison]  # by what is compared
COMPARISONS = pytest.StashKey[Comparisons]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--compare", action="append", default=[], metavar="WHAT", help="fail unless all WHAT were compared"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "compares(what, names): the test compares one of these names")
    config.stash[COMPARISONS] = {what: Comparison() for what in config.option.compare}


@pytest.hookimpl(tryfirst=True)  # before any test is deselected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    comparisons = config.stash[COMPARISONS]
    for item in items:
        for mark in item.iter_markers("compares"):
            what, names = mark.args
            comparisons.setdefault(what, Comparison()).names.update(names)


@pytest.fixture
def compared(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`compared(name)`: both sides of this comparison were there."""
    what, names = request.node.get_closest_marker("compares").args

    def compared(name: str) -> None:
        assert name in names, f"{name} is not one of the {what}"
        request.config.stash[COMPARISONS][what].compared.add(name)

    return compared


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if is_worker(session.config):
        session.config.workeroutput["comparisons"] = {
            what: (sorted(comparison.names), sorted(comparison.compared))
            for what, comparison in session.config.stash[COMPARISONS].items()
        }
    if must_be_complete(session.config):
        complete = all(comparison.complete() for comparison in session.config.stash[COMPARISONS].values())
        if not complete and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """One of pytest-xdist's processes is done: add what it has compared. One that crashed tells nothing."""
    comparisons = node.config.stash[COMPARISONS]
    for what, (names, compared) in getattr(node, "workeroutput", {}).get("comparisons", {}).items():
        comparison = comparisons.setdefault(what, Comparison())
        comparison.names.update(names)
        comparison.compared.update(compared)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the outermost: after the summary of failures and skips
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    result = yield
    if config.option.collectonly:
        return result
    for what, comparison in config.stash[COMPARISONS].items():
        terminalreporter.write_line(f"{len(comparison.compared)} of {len(comparison.names)} {what} compared")
        if must_be_complete(config) and not comparison.complete():
            missing = (
                ", ".join(sorted(comparison.names - comparison.compared)) or "no test that compares them was found"
            )
            terminalreporter.write_line(f"FAILED: not all {what} were compared: {missing}", red=True)
    return result


def must_be_complete(config: pytest.Config) -> bool:
    """False where the command line picks tests, or only lists them, and in one of several processes."""
    picks = config.option.keyword or config.getoption("lf", False) or any("::" in given for given in config.args)
    return not (picks or config.option.collectonly or is_worker(config))


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of the processes that pytest-xdist spreads the tests over."""
    return hasattr(config, "workerinput")
