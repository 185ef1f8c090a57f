"""The kinds of bad inputs, and what a good refusal is: in plain words, naming what is wrong and what to do.

A Bad input is a graph around one node, good but for what the case says. The tables are in bad_files.py, bad_texts.py,
bad_values.py and bad_sockets.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from animatediff_faults_parts import Parts, whole
from animatediff_faults_stand_ins import carried

# What Python, PyTorch and libraries say to those who program.
INTERNALS = re.compile(
    r"""Traceback|\b(Key|Index|Type|Value|Attribute|Runtime|Name|Overflow|ZeroDivision|Recursion|OS)Error\b|StopIteration|
    NoneType|\bNone\b(?!\ of)|lambda|object\ at\ 0x|shape\ '\[|positional\ argument|keyword\ argument|invalid\ literal|
    could\ not\ convert|subscriptable|iterable|has\ no\ attribute|unpack|<class|__\w+__|\bErrno\b|size\ of\ tensor|mat1|
    scalar\ type|\btorch\.|\b(dict|tuple|str|int|float|bool)\b|must\ match\ the\ size|recursion|
    not\ supported\ between|unhashable|unsupported\ operand|expected\ scalar|enforce\ fail|DefaultCPUAllocator|argument\ '""",
    re.VERBOSE,
)
# A sentence that says what to do, or what is possible.
ADVICE = re.compile(
    r"""\b(add|bring|check|choose|connect|convert|create|decode|disconnect|download|encode|free|give|install|keep|leave|load|
    lower|make|merge|pick|put|raise|remove|rename|report|resume|save|scale|set|shorten|split|start|take|train|turn|type|use|
    wait|write|instead|must|has\ to|have\ to|can\ be|can\ have|needs?|at\ most|at\ least|between|expected)\b""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Bad:
    """One bad input.

    ``names``: the message has each of these words: the input, or the file. ``told``: it is enough to say so in the log.
    ``bounded``: it may work, if that takes no long time and no large memory.
    """

    name: str
    build: Callable[[], Parts]
    names: tuple[str, ...]
    told: bool = False
    bounded: bool = False


def linked(name: str, value, as_list: bool = False) -> Callable:
    """An input that comes over a link from a node that hands on anything: no widget has looked at it."""

    def link(graph: Parts):
        return carried(graph, name, value, as_list)

    link.__doc__ = name
    return link


def bad(node_id: str, names: str | tuple[str, ...] = (), told: bool = False, bounded: bool = False, **inputs) -> Bad:
    """The ``node_id`` with ``inputs`` over links. Functions among them make the link; their docstring says to what.

    The message must name the first input, unless ``names`` says otherwise.
    """
    said = ", ".join(f"{name}={_short(value)}" for name, value in inputs.items())
    case = f"{node_id}: {said}"

    def build() -> Parts:
        links = {
            name: value if callable(value) else linked(f"{case} / {name}", value) for name, value in inputs.items()
        }
        return whole(node_id, salt=case, **links)

    names = (names,) if isinstance(names, str) else names
    return Bad(case, build, names or (next(iter(inputs)),), told, bounded)


def _short(value) -> str:
    if callable(value):
        return value.__doc__
    shape = getattr(value, "shape", None)
    text = repr(value) if shape is None else f"tensor{tuple(shape)}"
    return text if len(text) <= 40 else f"{text[:36]}… ({len(text)} characters)"


def what_is_wrong(case: Bad, message: str) -> list[str]:
    """What keeps ``message`` from being a good refusal."""
    found = [f"'{match[0]}' is no plain word" for match in [INTERNALS.search(message)] if match]
    found += [f"does not name {name}" for name in case.names if name.lower() not in message.lower()]
    if not case.told and not ADVICE.search(message):
        found.append("does not say what to do")
    return found
