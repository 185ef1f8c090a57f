"""What other programs read of this pack: ComfyUI-Manager, the Comfy Registry, workflows on machines without it."""

import json
import re
from pathlib import Path

import pytest
from animatediff_dev_examples import NAMES, api_form, pack_of_nodes, workflow_file
from animatediff_dev_hosts import RELEASES
from animatediff_dev_pack import ROOT, import_file

node_index = import_file("animatediff_dev_node_index", Path(ROOT) / "dev" / "node_index.py")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
NODE_LIST = json.loads(node_index.LIST.read_text(encoding="utf-8"))


def stated(field: str) -> str:
    """The text of a field of pyproject.toml. By hand: Python 3.10 has no tomllib."""
    return re.search(rf'^{field} = "(.*)"$', PYPROJECT, re.MULTILINE)[1]


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_the_managers_list_has_all_nodes_that_are_served(pack):
    served = pack.submodule("nodes").served()
    assert node_index.LIST.read_text(encoding="utf-8") == node_index.node_list(served), "run: python dev/node_index.py"
    assert set(NODE_LIST) == {node.GET_SCHEMA().node_id for node in served}
    assert all(NODE_LIST.values())


@pytest.mark.parametrize("name", NAMES)
def test_our_nodes_of_an_example_workflow_say_which_pack_they_are_of(name):
    nodes = json.loads(workflow_file(name).read_text(encoding="utf-8"))["nodes"]
    named = {node["type"] for node in nodes if "cnr_id" in node["properties"]}
    assert named == {node["type"] for node in nodes if node["type"] in NODE_LIST}
    assert named
    for properties in (node["properties"] for node in nodes if node["type"] in NODE_LIST):
        assert properties["cnr_id"] == stated("name")
        assert numbers(properties["ver"]) <= numbers(stated("version"))  # that of the pack it was saved with


@pytest.mark.parametrize("name", NAMES)
def test_each_node_of_an_api_example_has_a_title_of_its_own(name):
    """By which clients such as comfy-api-simplified, and our tables, find a node; without titles they stop."""
    titles = [node["_meta"]["title"] for node in api_form(name).values()]
    assert all(titles)
    assert len(set(titles)) == len(titles)


def test_pack_id_and_version_are_such_as_the_front_end_takes():
    """It drops what does not look like them, and then nobody is told the name."""
    assert set(pack_of_nodes()) == {"cnr_id", "ver"}
    assert re.fullmatch(r"[A-Za-z0-9][\w.-]{0,98}[A-Za-z0-9]", pack_of_nodes()["cnr_id"], re.ASCII)
    assert re.fullmatch(r"\d+\.\d+\.\d+", pack_of_nodes()["ver"])


def test_the_oldest_comfyui_that_the_registry_is_told_is_the_oldest_that_is_tested():
    oldest = min(RELEASES, key=numbers)
    assert stated("requires-comfyui") == f">={oldest}"


def test_what_a_publisher_fills_in_is_all_empty_or_all_filled_in_and_the_page_names_it():
    fields = ("Repository", "PublisherId", "Icon")
    page = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")
    for field in fields:
        assert f"`{field}`" in page
    assert len({bool(stated(field)) for field in fields}) == 1
    icon = re.search(r"`https://raw\.githubusercontent\.com/OWNER/NAME/main/([\w./]+)`", page)[1]
    assert (ROOT / icon).is_file()
    if stated("Repository"):
        raw = stated("Repository").replace("https://github.com/", "https://raw.githubusercontent.com/")
        assert stated("Icon") == f"{raw}/main/{icon}"


def test_no_address_is_named_that_nobody_made():
    """Users would clone what is not there, or what a stranger put there."""
    pages = [ROOT / "README.md", ROOT / "pyproject.toml", *(ROOT / "docs").glob("*.md")]
    pages += [path for folder in ("host", "nodes", "dev") for path in (ROOT / folder).rglob("*.py")]
    named = [path.name for path in pages if "github.com/animatediff-next" in path.read_text(encoding="utf-8")]
    assert stated("Repository") or not named, named


def test_the_changelog_has_this_version():
    assert f"\n## {stated('version')}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def left_out() -> list[str]:
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    return [line.strip("/") for line in lines if not line.startswith("#")]


def test_what_the_package_leaves_out_is_there_to_be_left_out():
    assert [pattern for pattern in left_out() if not list(ROOT.glob(pattern))] == []


def sources() -> list[Path]:
    """The Python files of the package."""
    without = {path for pattern in left_out() for path in ROOT.glob(pattern)}
    files = (path for path in ROOT.rglob("*.py") if not path.relative_to(ROOT).as_posix().startswith("."))
    return sorted(path for path in files if not without & {path, *path.parents})


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_files_have_characters_that_a_windows_console_has(path):
    """What comfy-test asks for. Others are escapes in texts, and words in comments: sigma, alpha_bar."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.encode("cp1252", "ignore").decode("cp1252") != line] == []
