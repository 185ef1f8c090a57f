"""Files, texts, values and links that cannot be right: refused in plain words, before a UNet runs, and soon."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import time
from collections.abc import Iterator

import pytest
from animatediff_faults_bad_files import ALL as FILES
from animatediff_faults_bad_files import BUILT, prepare
from animatediff_faults_bad_inputs import Bad, what_is_wrong
from animatediff_faults_bad_sockets import MIXED_UP, of_nothing
from animatediff_faults_bad_texts import ALL as TEXTS
from animatediff_faults_bad_values import ALL as NUMBERS
from animatediff_faults_parts import whole
from animatediff_faults_running import node_classes
from animatediff_faults_stand_ins import CALLS, VALUES, TinyClip

MOST_SECONDS = 5.0  # of this process: what else the machine does counts for nothing
MOST_MEMORY = 3 << 30
GROUPS: dict[str, list[Bad]] = {**FILES, **TEXTS, **NUMBERS, "other things on sockets": MIXED_UP}
CASES = [
    pytest.param(case, id=case.name, marks=pytest.mark.trial(group))
    for group, cases in GROUPS.items()
    for case in cases
]
# Nodes for families of motion models that no tiny UNet has, one that needs a path, and those that need a whole checkpoint.
ELSEWHERE = re.compile("ADE_PerBlock_SD|ADE_LoadCameraPosesFromPath|ADE_RegisterModelAsLoraHook")


class TookTooLong(BaseException):
    """Not an Exception, which somebody might catch."""


@contextlib.contextmanager
def bounds() -> Iterator[None]:
    """End what takes too long or too much memory, where the system can."""

    def too_long(*_):
        raise TookTooLong

    if not hasattr(signal, "setitimer"):
        yield
        return
    import resource

    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else contextlib.nullcontext() as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize() if statm else None
    before = signal.signal(signal.SIGPROF, too_long), resource.getrlimit(resource.RLIMIT_AS)
    signal.setitimer(signal.ITIMER_PROF, 2 * MOST_SECONDS)
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY, before[1][1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before[1])
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before[0])


@pytest.fixture(scope="module")
def small_checkpoint(comfyui):
    """The host's loader gives a tiny checkpoint, whatever the file."""
    stand_ins = {name: node_classes()[name] for name in ("TinyModel", "TinyClip")}
    loader = node_classes()["CheckpointLoaderSimple"]
    patch = pytest.MonkeyPatch()
    model = stand_ins["TinyModel"]().execute(seed=0)[0]
    patch.setattr(loader, "load_checkpoint", lambda self, ckpt_name: (model, TinyClip(), None))
    yield
    patch.undo()


@pytest.fixture(scope="module", autouse=True)
def made(pack, small_checkpoint):
    prepare(pack)


@pytest.fixture
def try_out(prompts, caplog):
    """`try_out(case)`: what is wrong with how a bad input is refused; nothing if all is well."""

    def run(case: Bad) -> list[str]:
        caplog.clear()
        CALLS.unet = 0
        begin = time.process_time()
        try:
            with bounds(), caplog.at_level(logging.WARNING):
                outcome = prompts.run(case.build())
        except TookTooLong:
            return [f"was stopped after {2 * MOST_SECONDS:g} seconds"]
        finally:
            VALUES.clear()
            while BUILT:
                os.remove(BUILT.pop())
        found = []
        if (seconds := time.process_time() - begin) > MOST_SECONDS:
            found.append(f"took {seconds:.1f} seconds")
        if isinstance(outcome.error, TookTooLong):
            return [f"was stopped after {2 * MOST_SECONDS:g} seconds"]
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        if not outcome.refused and case.told:
            told = "\n".join(line for line in warnings if all(word.lower() in line.lower() for word in case.names))
            return found + (what_is_wrong(case, told) if told else ["was not told"])
        if not outcome.refused:
            return found if case.bounded else [*found, "was not refused"]
        if outcome.error is None and "validat" not in outcome.message:
            found.append("never reached the node: the host itself refused it")
        if CALLS.unet:
            found.append(f"was refused after {CALLS.unet} calls of the UNet")
        found += what_is_wrong(case, outcome.message)
        return [*found, f"in: {outcome.message}"] if found else []

    return run


def test_good_inputs_work(prompts, pack):
    """The graphs that bad inputs are put into are right but for these: else all would be refused, and rightly so."""
    refused = {}
    for node in pack.submodule("nodes").NODES:
        node_id = node.GET_SCHEMA().node_id
        if not ELSEWHERE.match(node_id):
            outcome = prompts.run(whole(node_id, salt="good"))
            if outcome.refused:
                refused[node_id] = outcome.message
    assert not refused


@pytest.mark.parametrize("case", CASES)
def test_is_refused_in_plain_words(try_out, case):
    assert not try_out(case)


def test_links_that_bring_nothing(try_out, tally, pack):
    """To every required socket of every node, and to the first widget."""
    wrong = {}
    for case in of_nothing(pack.submodule("nodes").NODES):
        found = try_out(case)
        tally.note("nothing on sockets", case.name, bool(found))
        if found:
            wrong[case.name] = found
    assert not wrong
