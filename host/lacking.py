"""Which rows of the contract this host does not keep: names and signatures, all of them in some milliseconds."""

import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .contract import Row, rows

# The notations of a row; what is none of these is a name.
KEY = re.compile(r"'(?P<key>\w+)' in (?P<name>[\w.]+)")
INSTANCE = re.compile(r"(?P<name>[\w.]+)\(\)\.(?P<attribute>\w+)")
CALL = re.compile(r"(?P<owner>[\w.]+)\.(?P<attribute>\w+)\((?P<arguments>[^)]*)\)")
ANY_NAME = "_"
# Programs that run nodes without a server have not imported these, and nothing of ours needs them there.
OF_SERVERS = ("server", "execution")


def lacking() -> list[Row]:
    """The rows that this host does not keep, but for those that ``host/`` can do without."""
    return [row for row in rows() if not row.optional and not is_kept(row.what)]


def is_kept(what: str) -> bool:
    """Whether this host has what a row says."""
    if (top := what.split(".")[0]) in OF_SERVERS and top not in sys.modules:
        return True
    try:
        if match := KEY.fullmatch(what):
            source = _source(found(match["name"]))
            return f"'{match['key']}'" in source or f'"{match["key"]}"' in source
        if match := INSTANCE.fullmatch(what):
            return _instances_have(found(match["name"]), match["attribute"])
        if match := CALL.fullmatch(what):
            return _can_be_called(found(match["owner"]), match["attribute"], match["arguments"])
        found(what)
    except Exception:  # whatever goes wrong on the way: this check is not what keeps the pack from starting
        return False
    return True


def absent(what: str) -> str:
    """What is not there, of a row that is not kept: the name or its beginning; the row, if only that has changed."""
    if KEY.fullmatch(what):
        return what
    parts = re.findall(r"[\w.]+", what)[0].split(".")
    beginnings = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return next((name for name in beginnings if not is_kept(name)), what)


@cache
def found(name: str):
    """What a dotted name stands for. Raises ImportError or AttributeError where there is no such thing."""
    outer, _, last = name.rpartition(".")
    if not outer:
        return import_module(name)
    owner = found(outer)
    if isinstance(owner, ModuleType) and not hasattr(owner, last):
        return import_module(name)
    return getattr(owner, last)


def _can_be_called(owner, attribute: str, arguments: str) -> bool:
    """Whether ``owner.attribute`` takes arguments: names of positional ones, or ``_``, and keywords with a ``=``."""
    function = getattr(owner, attribute)
    words = [word.strip() for word in arguments.split(",") if word.strip()]
    keywords = [word.removesuffix("=") for word in words if word.endswith("=")]
    names = [word for word in words if not word.endswith("=")]
    if isinstance(owner, type) and isinstance(function, FunctionType):
        names.insert(0, ANY_NAME)  # self
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C, without a signature
        return True
    try:
        signature.bind(*names, **dict.fromkeys(keywords))
    except TypeError:
        return False
    # Other packs put functions of their own in the host's place, with other names or none. What counts is that no
    # argument has moved.
    places = {name: place for place, name in enumerate(signature.parameters)}
    return all(places.get(name, place) == place for place, name in enumerate(names))


def _instances_have(cls: Any, attribute: str) -> bool:
    """Whether the class, or the code of one of its methods, names the attribute."""
    return hasattr(cls, attribute) or any(
        attribute in vars(base).get("__annotations__", ()) or attribute in _names_in_methods(base)
        for base in cls.__mro__
        if base is not object
    )


@cache
def _names_in_methods(cls: type) -> set[str]:
    functions = [inspect.unwrap(value) for value in vars(cls).values() if isinstance(value, FunctionType)]
    return {name for function in functions for name in _names(function.__code__)}


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


@cache
def _source(module: ModuleType) -> str:
    """A module as it was written: in the place of its functions other packs may have put theirs."""
    with open(module.__file__ or "", encoding="utf-8") as file:
        return file.read()
