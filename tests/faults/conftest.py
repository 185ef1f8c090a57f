"""A ComfyUI in this process whose executor runs whole prompts on tiny networks; and the count of what was tried."""

from __future__ import annotations

from pathlib import Path

import pytest
from animatediff_dev_pack import import_file

HERE = Path(__file__).parent
PARTS = ("running", "stand_ins", "parts", "graphs", "stages", "as_before")
PARTS += ("bad_inputs", "bad_values", "bad_texts", "bad_files", "bad_sockets", "reliability")
modules = {name: import_file(f"animatediff_faults_{name}", HERE / f"{name}.py") for name in PARTS}
running, stand_ins, stages, reliability = (modules[name] for name in ("running", "stand_ins", "stages", "reliability"))


class Tally:
    """What was really tried, and what of it went wrong: names by group."""

    def __init__(self):
        self.tried: dict[str, set[str]] = {}
        self.failed: dict[str, set[str]] = {}

    def note(self, group: str, name: str, failed: bool) -> None:
        self.tried.setdefault(group, set()).add(name)
        if failed:
            self.failed.setdefault(group, set()).add(name)


TALLY = pytest.StashKey[Tally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-numbers", action="store_true", help="write what was counted into docs/reliability.md")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "trial(group): the test tries one thing, which is counted in this group")
    config.stash[TALLY] = Tally()


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return pytestconfig.stash[TALLY]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    mark = item.get_closest_marker("trial")
    if mark is not None and (report.when == "call" or report.failed):
        item.config.stash[TALLY].note(mark.args[0], item.name, report.failed)
    return report


def all_of_it(config: pytest.Config) -> bool:
    """Whether the command line asks for this whole folder."""
    from animatediff_comparisons import must_be_complete

    return must_be_complete(config) and HERE in [Path(argument).resolve() for argument in config.args]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if not all_of_it(config):
        return
    tally = config.stash[TALLY]
    if config.getoption("--write-numbers", False):
        reliability.write(tally)
    if reliability.problems(tally) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config):
    result = yield
    tally = config.stash[TALLY]
    if all_of_it(config):
        for problem in reliability.problems(tally):
            terminalreporter.write_line(f"FAILED: {problem}", red=True)
    if tally.tried:
        failures = sum(len(terminalreporter.stats.get(kind, ())) for kind in ("failed", "error"))
        terminalreporter.write_line(f"faults: {reliability.line(tally)}; {failures} failures")
    return result


@pytest.fixture(scope="session")
def comfyui(pack):
    """The nodes in the host's table, the files in its folders."""
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    stand_ins.write_files(pack)
    with running.registered(pack, stand_ins.STAND_INS | stages.FAULT_NODE):
        yield
    comfy.utils.set_progress_bar_enabled(True)


@pytest.fixture(scope="session")
def prompts(comfyui) -> running.Prompts:
    """The host's executor, which remembers what nodes made from prompt to prompt, as with --cache-lru."""
    return running.Prompts(stand_ins.KEPT, remember=2000)
