"""ComfyUI shows an error's class above its message: the name alone, not the folder that the pack is in."""

import importlib
import pkgutil

import pytest


@pytest.fixture(scope="session")
def of_ours(pack) -> set[type]:
    """The classes of errors of the pack: each whose definition is in a module of it."""
    found = set()
    for layer in ("host", "motion_models", "lora", "metrics", "scheduling", "sampling", "training", "nodes"):
        package = pack.submodule(layer)
        modules = [name for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
        modules = [name for name in modules if not name.endswith(".cli")]  # a command, which no ComfyUI shows
        for module in map(importlib.import_module, [package.__name__, *modules]):
            for thing in vars(module).values():
                if isinstance(thing, type) and issubclass(thing, Exception) and _of_ours(thing, pack):
                    found.add(thing)
    return found


def _of_ours(error: type, pack) -> bool:
    root = pack.submodule("host").__name__.removesuffix("host")
    return issubclass(error, pack.submodule("host.told").Told) or error.__module__.startswith(root)


def test_errors_are_shown_by_their_name_alone(of_ours):
    execution = importlib.import_module("execution")  # of the host
    assert len(of_ours) > 30
    wrong = [name for name in map(execution.full_type_name, of_ours) if "." in name]
    assert not wrong, wrong


def test_what_catches_values_still_catches_ours(of_ours):
    """Other packs, and the host, know the classes that Python has."""
    for error in of_ours:
        assert issubclass(error, (ValueError, RuntimeError, ImportError)), error
