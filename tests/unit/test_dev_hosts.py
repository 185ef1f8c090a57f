"""Which ComfyUI the developer tools use."""

import sys
from pathlib import Path

import animatediff_dev_hosts
import pytest
from animatediff_dev_hosts import cache_dir, host, own_version, require_repository, versions
from animatediff_dev_pack import ROOT, import_script
from animatediff_dev_reference import weight_checksums


@pytest.fixture
def own_comfyui(tmp_path, monkeypatch) -> Path:
    (tmp_path / "main.py").touch()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.99.0"\n')
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    return tmp_path


def test_comfyui_path_replaces_the_cached_releases(own_comfyui):
    assert host().path == own_comfyui
    assert host().version == "0.99.0"
    assert versions() == ["0.99.0"]


def test_the_version_file_of_a_comfyui_is_read_and_not_run(tmp_path):
    assert own_version(tmp_path) == "unknown"
    (tmp_path / "comfyui_version.py").write_text("# generated\nraise OSError\n__version__ = '1.2.3'  # as it is\n")
    assert own_version(tmp_path) == "1.2.3"


def test_the_registrys_package_says_that_the_demo_needs_the_repository(tmp_path, monkeypatch):
    require_repository()  # here it is
    monkeypatch.setattr(animatediff_dev_hosts, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"(?si)the demo.*need the whole repository.*copy or clone"):
        require_repository()


def test_interpreter_of_an_own_comfyui(own_comfyui, monkeypatch):
    assert host().python == Path(sys.executable)

    python = own_comfyui / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    python.parent.mkdir(parents=True)
    python.touch()
    assert host().python == python

    monkeypatch.setenv("COMFYUI_PYTHON", "given/python")
    assert host().python == Path("given/python")


def test_a_folder_without_comfyui_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="not a ComfyUI folder"):
        host()


def test_cache_folder_can_be_moved(tmp_path, monkeypatch):
    monkeypatch.setenv("ANIMATEDIFF_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path


def test_random_weights_other_than_those_of_the_reference_latents_are_told(tmp_path):
    """Here all files are empty, as another PyTorch may draw other numbers."""
    random_weights = import_script("animatediff_random_weights", ROOT / "dev" / "random_weights.py")
    for name in weight_checksums():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with pytest.raises(SystemExit, match=r"drew other random weights.*animatediff_models/random_v1\.safetensors"):
        random_weights.check(tmp_path)


def test_a_script_leaves_no_bare_names_behind():
    """ComfyUI has a `server` of its own, which its nodes import once the tests of a script are over."""
    before, search = set(sys.modules), list(sys.path)
    bare = {file.stem for folder in ("dev", "benchmarks") for file in (ROOT / folder).glob("*.py")}
    script = import_script("animatediff_tests_script", ROOT / "benchmarks" / "packs.py")
    assert script.Server.__module__ == "server"
    assert not bare & (set(sys.modules) - before)
    assert sys.path == search


@pytest.mark.parametrize("other", [False, True])
def test_two_processes_may_make_the_same_at_once(tmp_path, monkeypatch, other):
    """The one that is later takes what the other made."""
    monkeypatch.setattr(animatediff_dev_hosts, "cache_dir", lambda: tmp_path)
    target = tmp_path / "things"
    script = "import pathlib, sys; folder = pathlib.Path(sys.argv[1]); folder.mkdir(); (folder / 'mine').touch()"
    if other:
        script += f"; target = pathlib.Path({str(target)!r}); target.mkdir(); (target / 'theirs').touch()"
    assert animatediff_dev_hosts.made("things", [sys.executable, "-c", script], tmp_path) == target
    assert [file.name for file in target.iterdir()] == ["theirs" if other else "mine"]
