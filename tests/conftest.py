"""Fixtures: the ComfyUI under test, the pack as that ComfyUI loads it, weights, servers.

`--comfyui VERSION` picks a release from dev/hosts.py; COMFYUI_PATH in the environment wins over it.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
import_file = runpy.run_path(str(ROOT / "dev" / "pack.py"))["import_file"]

# Not as `hosts` and `server`: the host has a top-level module `server`.
dev_pack = import_file("animatediff_dev_pack", ROOT / "dev" / "pack.py")
hosts = import_file("animatediff_dev_hosts", ROOT / "dev" / "hosts.py")
dev_server = import_file("animatediff_dev_server", ROOT / "dev" / "server.py")
import_file("animatediff_dev_examples", ROOT / "dev" / "examples.py")
import_file("animatediff_dev_front_end", ROOT / "dev" / "front_end.py")
import_file("animatediff_dev_plain_training", ROOT / "dev" / "plain_training.py")
import_file("animatediff_dev_reference", ROOT / "dev" / "reference.py")
comparisons = import_file("animatediff_comparisons", ROOT / "tests" / "comparisons.py")
import_file("animatediff_tests_copied", ROOT / "tests" / "copied.py")
tiny = import_file("animatediff_tests_tiny", ROOT / "tests" / "tiny.py")
videos = import_file("animatediff_tests_videos", ROOT / "tests" / "videos.py")
training_fixtures = import_file("animatediff_tests_training", ROOT / "tests" / "training_fixtures.py")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.register(comparisons)
    parser.addoption(
        "--comfyui", default=hosts.DEFAULT, choices=list(hosts.RELEASES), help="ComfyUI release to test in"
    )
    parser.addoption("--device", default="cpu", choices=["cpu", "cuda"], help="where ComfyUI computes")


class RepositoryRoot:
    """Collect the repository root as a plain folder: pytest would import its __init__.py as a test package."""

    @staticmethod
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Dir | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    # As a plugin, because hooks in a conftest.py see only what lies below it.
    config.pluginmanager.register(RepositoryRoot)
    for fixtures in (tiny, training_fixtures, videos):  # they serve more than one folder, or file
        config.pluginmanager.register(fixtures)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `any_host` runs once per supported ComfyUI."""
    if "any_host" in metafunc.fixturenames:
        metafunc.parametrize("any_host", hosts.versions(), indirect=True)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook and would come first
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together where pytest-xdist spreads them over processes.

    Those of one file, as they share what they have made ready; and all with the full-size weights, because a machine may
    have memory for one such server only. Groups that take minutes go first, so that both processes end together.
    """
    for item in items:
        group = "weights" if "weights" in item.fixturenames else item.path.relative_to(ROOT).as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests" / "server"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node, ids: list[str]) -> None:
    """Stop where pytest-xdist ignores the groups: it hands them over in the tests' ids, which pytest 9.2 keeps elsewhere."""
    if node.config.option.dist == "loadgroup" and not all("@" in name for name in ids):
        pytest.exit("pytest-xdist keeps no groups together with this pytest: install requirements-dev.txt.", 1)


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
    arguments = ["--base-directory", str(base)]  # so that what a test saves does not land in the host
    if request.config.getoption("--device") == "cpu":
        arguments.append("--cpu")
    dev_pack.enter_host(host.path, arguments)
    # Tests in this process use tiny tensors: threads would only wait for each other, for minutes on a busy machine.
    importlib.import_module("torch").set_num_threads(1)
    return host.path


@pytest.fixture(scope="session")
def pack(host_path: Path) -> dev_pack.Pack:
    """The pack inside the host: `pack.submodule("sampling.windows.schedules")`."""
    return dev_pack.Pack()


@pytest.fixture(scope="session")
def weights(host: hosts.Host) -> Path:
    """Folder of the random weights (checkpoints/, animatediff_models/, animatediff_motion_lora/) of the reference latents."""
    return hosts.weights(host)


@pytest.fixture(scope="session")
def toyworld_models(host: hosts.Host) -> Path:
    """Folder of the toy world's model files: small weights that were really trained."""
    return hosts.toyworld_models(host)


@pytest.fixture(scope="session")
def toyworld(host_path: Path) -> Callable:
    """`toyworld("scenes")`: a module of the toy world, which stands beside the pack and not in it."""
    sys.path.insert(0, str(ROOT))
    importlib.import_module("toyworld")
    sys.path.remove(str(ROOT))  # else the host's `nodes` could be ours
    return lambda name: importlib.import_module(f"toyworld.{name}")


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
