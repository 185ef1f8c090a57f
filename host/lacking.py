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
WORD = re.compile(r"'(?P<word>\w+)' in (?P<name>[\w.]+)")
INSTANCE = re.compile(r"(?P<name>[\w.]+)\(\)\.(?P<attribute>\w+)")
CALL = re.compile(r"(?P<owner>[\w.]+)\.(?P<attribute>\w+)\((?P<arguments>[^)]*)\)")
ANY_NAME = "_"
# Programs that run nodes without a server have not imported it, and nothing of ours needs it there.
SERVER = "server"


def lacking() -> list[Row]:
    """The rows that this host does not keep, but for those that ``host/`` can do without."""
    return [row for row in rows() if not row.optional and not is_kept(row.what)]


def is_kept(what: str) -> bool:
    """Whether this host has what a row says."""
    if what.startswith(f"{SERVER}.") and SERVER not in sys.modules:
        return True
    try:
        if match := WORD.fullmatch(what):
            return match["word"] in _words(found(match["name"]))
        if match := INSTANCE.fullmatch(what):
            return _instances_have(found(match["name"]), match["attribute"])
        if match := CALL.fullmatch(what):
            return _can_be_called(found(match["owner"]), match["attribute"], match["arguments"])
        found(what)
    except (ImportError, AttributeError):
        return False
    return True


def absent(what: str) -> str:
    """What is not there, of a row that is not kept: the name or its beginning; the row, if only that has changed."""
    if WORD.fullmatch(what):
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
    function = getattr(owner, attribute)
    signature = inspect.signature(function)
    words = [word.strip() for word in arguments.split(",") if word.strip()]
    keywords = [word.removesuffix("=") for word in words if word.endswith("=")]
    names = [word for word in words if not word.endswith("=")]
    if isinstance(owner, type) and isinstance(function, FunctionType):
        names.insert(0, ANY_NAME)  # self
    try:
        signature.bind(*names, **dict.fromkeys(keywords))
    except TypeError:
        return False
    # not strict: what follows the names is free, and *args may take several of them
    return all(name in (ANY_NAME, there) for name, there in zip(names, signature.parameters, strict=False))


def _instances_have(cls: Any, attribute: str) -> bool:
    """Whether the class, or the code of one of its methods, names the attribute."""
    return hasattr(cls, attribute) or any(
        attribute in getattr(base, "__annotations__", ()) or attribute in _words_of_class(base)
        for base in cls.__mro__
        if base is not object
    )


@cache
def _words(module: ModuleType) -> set[str]:
    """All names and strings in the code of a module's functions and classes."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    words: set[str] = set()
    for value in own:
        if isinstance(value, type):
            words |= _words_of_class(value)
        elif isinstance(value, FunctionType):
            words |= set(_words_of_code(inspect.unwrap(value).__code__))
    return words


@cache
def _words_of_class(cls: type) -> set[str]:
    words: set[str] = set()
    for value in vars(cls).values():
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(value, FunctionType):
            words |= set(_words_of_code(inspect.unwrap(value).__code__))
    return words


def _words_of_code(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _words_of_code(constant)
        elif isinstance(constant, str):
            yield constant
        elif isinstance(constant, (tuple, frozenset)):
            yield from (item for item in constant if isinstance(item, str))
