"""Pages that are made from the code are those that the code makes now."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from animatediff_dev_pack import ROOT, import_file

# Ours at the top level: other paths on the pages are of ComfyUI.
FOLDERS = {path.name for path in Path(ROOT).iterdir() if path.is_dir()}
# Made by the reader of adding-a-feature.md.
OF_THE_PAGE = ("print_sigmas.py", "test_print_sigmas.py")

node_index = import_file("animatediff_dev_node_index", Path(ROOT) / "dev" / "node_index.py")


def test_the_node_index_lists_the_nodes_as_they_are(pack):
    made = node_index.page(pack.submodule("nodes").NODES)
    assert node_index.PAGE.read_text(encoding="utf-8") == made, "run: python dev/node_index.py"


def test_every_node_says_what_it_does(pack):
    for node in pack.submodule("nodes").NODES:
        schema = node.GET_SCHEMA()
        assert schema.description, schema.node_id


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "tests" / "reference" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
        file = page.parent / unquote(target) if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, anchor


def test_pages_that_docstrings_name_are_there():
    for path in ROOT.rglob("*.py"):
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            for page in re.findall(r"docs/\w[\w-]*\.md", path.read_text(encoding="utf-8")):
                assert (ROOT / page).is_file(), f"{path.relative_to(ROOT)} names {page}"


@pytest.mark.parametrize(
    "page", [*sorted((Path(ROOT) / "docs").glob("*.md")), Path(ROOT) / "README.md"], ids=lambda page: page.name
)
def test_files_that_a_page_names_are_there(page):
    """Paths in code marks, such as `sampling/run.py`, and links to other pages."""
    text = page.read_text(encoding="utf-8")
    paths = {Path(ROOT) / name for name in re.findall(r"`([a-z_]+/[\w/.-]*)`", text) if name.split("/")[0] in FOLDERS}
    links = {page.parent / name for name in re.findall(r"\]\(([\w./-]+)\)", text)}
    missing = [str(path) for path in paths | links if not path.exists() and path.name not in OF_THE_PAGE]
    assert not missing
