"""`python -m nox -s NAME`; what follows `--` goes to pytest. Without -s: lint and tests.

The sessions run in the environment that dev/hosts.py keeps in a cache (made on first use),
or in your own ComfyUI where COMFYUI_PATH is set.
"""

import json
import sys
import tempfile
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent / "dev"))
import hosts

hosts.require_repository()
nox.options.sessions = ["lint", "tests"]


def run(session: nox.Session, *args: str, **environment: str) -> None:
    """Run a script or module in the interpreter of the ComfyUI in use."""
    session.run(str(hosts.host().python), *args, external=True, env=environment)


def run_tests(session: nox.Session, *args: str, folder: str = "", **environment: str) -> None:
    """The tests of ``folder`` (none: those of pyproject.toml), or only those that follow `--`."""
    hosts.require_test_tools(hosts.host().python)
    picked = any(argument.startswith("tests/") for argument in session.posargs)
    # -rs: the summary says why a test was skipped.
    where = [folder] if folder and not picked else []
    run(session, "-m", "pytest", "-rs", *args, *where, *session.posargs, **environment)


def comparing(session: nox.Session, what: str) -> tuple[str, ...]:
    """Have pytest fail unless all of ``what`` was compared (tests/comparisons.py), unless tests are picked."""
    return () if session.posargs else ("--compare", what)


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """Five animations of the toy worlds through a real ComfyUI. `-- --plain`: of plain scenes; `-- --long`: clips of 64 frames."""
    run(session, "dev/demo.py", *session.posargs)


@nox.session(venv_backend="none")
def toyworld(session: nox.Session) -> None:
    """Train the toy world anew, from seeds (hours; goes on where it was stopped), then measure it."""
    run(session, "-m", "toyworld", "train", *session.posargs)
    run(session, "-m", "toyworld", "landscapes")
    run(session, "-m", "toyworld", "claims")


@nox.session(venv_backend="none")
def claims(session: nox.Session) -> None:
    """The claims of the paper on the toy world's shipped weights; fails below a `must`. `-- --quick`: fewer clips."""
    run(session, "-m", "toyworld", "claims", *session.posargs)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """All tests but conformance, hosts, browser and those marked long; in two processes unless tests are picked."""
    if session.posargs:
        return run_tests(session, "-m", "not long")
    for make in (hosts.weights, hosts.toyworld_models):  # now: two processes would both make them
        make(hosts.host())
    spread = ("-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder")
    # One thread for each process and the server that it starts: threads that have no core wait for each other.
    run_tests(session, "-m", "not long", *spread, *comparing(session, "node interfaces"), OMP_NUM_THREADS="1")


@nox.session(venv_backend="none")
def conformance(session: nox.Session) -> None:
    """Our latents against the incumbent's, with each case's error; fails unless all were compared."""
    # -s: a case prints its error when it passes too.
    run_tests(session, "-v", "-s", *comparing(session, "reference latents"), folder="tests/conformance")


@nox.session(venv_backend="none", name="hosts")
def hosts_(session: nox.Session) -> None:
    """The pack in every supported ComfyUI release."""
    run_tests(session, *comparing(session, "ComfyUI releases"), folder="tests/hosts")


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Faults at every stage, prompts in random order, bad inputs; with `-- --write-numbers` docs/reliability.md gets its numbers."""
    run_tests(session, folder="tests/faults")


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style and types of the code; spelling of everything; links, and names of files and sessions, on the pages."""
    hosts.require_test_tools(hosts.host().python)
    run(session, "-m", "ruff", "check", ".")
    run(session, "-m", "ruff", "format", "--check", ".")
    # No words: a class, the Frobenius norm, Advanced-ControlNet, two pieces of tests and a plural.
    no_words = "inforce,fro,acn,ownload,caf,whats"
    run(session, "-m", "codespell_lib", "--ignore-words-list", no_words, "--skip", "*.json,*.svg", ".")
    run(session, "dev/links.py")
    # The checker takes no path of the host on its command line, so it gets a configuration that adds one to ours.
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "pyrightconfig.json"
        ours = Path(__file__).parent / "pyproject.toml"
        config.write_text(json.dumps({"extends": str(ours), "extraPaths": [str(hosts.host().path)]}), encoding="utf-8")
        run(session, "-m", "basedpyright", "--project", str(config), "--pythonpath", str(hosts.host().python))


@nox.session(venv_backend="none")
def browser(session: nox.Session) -> None:
    """The example workflows and all nodes in ComfyUI's own front end; needs chromium on the PATH."""
    run_tests(session, *comparing(session, "stored nodes"), folder="tests/browser")


@nox.session(venv_backend="none")
def distributed(session: nox.Session) -> None:
    """Training on two processes of this machine (docs/training.md, several GPUs): as one, and through torchrun from a graph."""
    run_tests(session, folder="tests/distributed")


@nox.session(venv_backend="venv", reuse_venv=True)
def cluster(session: nox.Session) -> None:
    """Batches on two workers of a local Ray cluster (docs/cluster.md), in an environment of their own with Ray."""
    session.install("--quiet", "-r", "tests/cluster/requirements.txt")
    if session.posargs[:1] == ["benchmark"]:
        session.run("python", "benchmarks/cluster.py", *session.posargs[1:])
    else:
        # With its own configuration: the tests of the pack need torch, and ComfyUI has modules named like our folders.
        session.run(
            "python", "-m", "pytest", "-rs", "-c", "tests/cluster/pytest.ini", "tests/cluster", *session.posargs
        )


@nox.session(venv_backend="venv", reuse_venv=True)
def ecosystem(session: nox.Session) -> None:
    """The package of the Comfy Registry: comfy-cli, comfy-test, comfy-import-guard, its size, and a real ComfyUI with nothing but it."""
    session.install("--quiet", "-r", "dev/ecosystem-requirements.txt")
    session.run("python", "dev/ecosystem.py")


@nox.session(venv_backend="none")
def benchmark(session: nox.Session) -> None:
    """The figures of docs/performance.md: `-- NAME` of a file in benchmarks/ (`temporal_module` if none), and its options."""
    name, *arguments = session.posargs or ["temporal_module"]
    run(session, f"benchmarks/{name}.py", *arguments)
