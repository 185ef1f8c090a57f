"""Fixtures: the ComfyUI under test, the pack as that ComfyUI loads it, weights, servers.

`--comfyui VERSION` picks a release from dev/hosts.py; COMFYUI_PATH in the environment wins over it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load(name: str, path: Path) -> ModuleType:
    """Import a file under a name of our choosing, leaving sys.path alone."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# Not as `hosts` and `server`: the host has a top-level module `server`.
hosts = load("animatediff_dev_hosts", ROOT / "dev" / "hosts.py")
dev_server = load("animatediff_dev_server", ROOT / "dev" / "server.py")


class Pack:
    """The pack, imported the way ComfyUI imports a folder of custom nodes."""

    def __init__(self, root: Path):
        # ComfyUI's name for it: the folder's path, without the dots that would mean a parent package.
        self.name = str(root).replace(".", "_x_")
        self.module = load(self.name, root / "__init__.py")

    def submodule(self, name: str) -> ModuleType:
        """`pack.submodule("motion_models.files")`"""
        return importlib.import_module(f"{self.name}.{name}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--comfyui", default=hosts.DEFAULT, choices=list(hosts.RELEASES), help="ComfyUI release to test in")
    parser.addoption("--device", default="cpu", choices=["cpu", "cuda"], help="where ComfyUI computes")


class RepositoryRoot:
    """Collect the repository root as a plain folder: pytest would import its __init__.py as a test package."""

    @staticmethod
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Dir | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    # As a plugin, because hooks in a conftest.py see only what lies below it.
    config.pluginmanager.register(RepositoryRoot)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `any_host` runs once per supported ComfyUI."""
    if "any_host" in metafunc.fixturenames:
        metafunc.parametrize("any_host", hosts.versions(), indirect=True)


@pytest.fixture(scope="session")
def any_host(request: pytest.FixtureRequest) -> hosts.Host:
    return hosts.host(request.param)


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> hosts.Host:
    """The ComfyUI under test: `.path`, `.python`, `.version`."""
    return hosts.host(request.config.getoption("--comfyui"))


@pytest.fixture(scope="session")
def host_path(host: hosts.Host, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the ComfyUI under test, importable in this process (`import comfy`)."""
    base = tmp_path_factory.mktemp("comfyui-base")
    arguments = ["pytest", "--base-directory", str(base)]  # so that what a test saves does not land in the host
    if request.config.getoption("--device") == "cpu":
        arguments.append("--cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        sys.path.insert(0, str(host.path))
        options = importlib.import_module("comfy.options")
        options.enable_args_parsing()
        importlib.import_module("comfy.cli_args")  # reads sys.argv once, when it is imported
    return host.path


@pytest.fixture(scope="session")
def pack(host_path: Path) -> Pack:
    """The pack inside the host: `pack.submodule("sampling.windows")`."""
    return Pack(ROOT)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Golden latents and specifications, beside the repository and not part of it."""
    if not hosts.SHARED.is_dir():
        pytest.skip(f"needs {hosts.SHARED}, which is not part of the repository")
    return hosts.SHARED


@pytest.fixture(scope="session")
def weights(host: hosts.Host, shared: Path) -> Path:
    """Folder of the random weights (checkpoints/, animatediff_models/, animatediff_motion_lora/) of the golden latents."""
    return hosts.weights(host)


@pytest.fixture(scope="session")
def new_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """`with new_server(host, models=[weights]) as server:` a real ComfyUI with the pack in it."""
    device = request.config.getoption("--device")

    def make(host: hosts.Host, **options) -> dev_server.Server:
        return dev_server.Server(host, tmp_path_factory.mktemp("run"), **{"device": device, **options})

    return make


@pytest.fixture(scope="session")
def server(new_server: Callable, host: hosts.Host, weights: Path) -> Iterator[dev_server.Server]:
    """The server most tests share: the ComfyUI under test with the random weights."""
    with new_server(host, models=[weights]) as server:
        yield server
