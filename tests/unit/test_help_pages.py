"""The help page of each node: there, true of the node, and made of words and pictures that exist."""

import re
from types import SimpleNamespace

import pytest
from animatediff_dev_pack import ROOT, import_file

help_pages = import_file("animatediff_dev_help_pages", ROOT / "dev" / "help" / "pages.py")
PICTURES = help_pages.PAGES / "pictures"
MOST_BYTES_OF_PICTURES = 300_000


@pytest.fixture(scope="session")
def nodes(pack) -> list[type]:
    return pack.submodule("nodes").NODES


@pytest.fixture(scope="session")
def schemas(nodes) -> dict:
    return {schema.node_id: schema for schema in (node.GET_SCHEMA() for node in nodes)}


@pytest.fixture(scope="session")
def written() -> dict[str, str]:
    """The pages as they are in the repository, by node id."""
    return {file.stem: file.read_text(encoding="utf-8") for file in help_pages.PAGES.glob("*.md")}


def test_comfyui_is_told_where_the_pages_are(pack):
    assert ROOT / pack.module.WEB_DIRECTORY / "docs" == help_pages.PAGES


def test_every_node_has_the_page_that_is_made_of_it(pack, nodes, written):
    made = help_pages.pages(nodes, pack.submodule("nodes.kinds").source)
    assert sorted(written) == sorted(made), "run: python dev/help/pages.py"
    old = [node_id for node_id, page in made.items() if page != written[node_id]]
    assert not old, "run: python dev/help/pages.py"


def test_pages_tell_of_every_input_with_its_default_and_range(schemas, written):
    page = written["ADE_StandardStaticContextOptions"]
    assert "- **context_length** (default 16; 1 to 128): " in page
    assert " counts where windows overlap. Or: relative, flat, " in page
    assert "- **use_on_equal_length** (default off): " in page
    for node_id, schema in schemas.items():
        if not schema.is_deprecated:
            listed = re.findall(r"^- \*\*(.+?)\*\*", written[node_id], re.MULTILINE)
            named = [entry.id for entry in schema.inputs]
            named += [output.display_name or output.get_io_type() for output in schema.outputs]
            assert listed == named, node_id


def test_words_of_our_own_are_on_every_page_that_is_not_of_a_deprecated_node(schemas):
    by_hand = help_pages.texts(schemas)
    silent = [
        node_id
        for node_id, text in by_hand.items()
        if not (schemas[node_id].is_deprecated or text.ahead or text.behind)
    ]
    assert not silent, "write about them in dev/help"


def test_deprecated_nodes_name_what_to_use(schemas, written):
    deprecated = [node_id for node_id, schema in schemas.items() if schema.is_deprecated]
    assert len(deprecated) >= 30
    for node_id in deprecated:
        assert re.search(r"(\b[Uu]se (ComfyUI's )?|\bSee )[\[*]?[A-Z]", written[node_id]), node_id
        assert "## Inputs" not in written[node_id]


MARKED = re.compile(r"`([a-z][a-z0-9_]*)`")


def names_of(schema) -> set[str]:
    inputs = {entry.id for entry in schema.inputs}
    outputs = {output.display_name for output in schema.outputs}
    options = {str(option) for entry in schema.inputs for option in getattr(entry, "options", None) or ()}
    return inputs | outputs | options


def test_no_page_names_an_input_that_does_not_exist(schemas, written):
    """Words in code marks, such as `context_length`, are of the page's node or of one that the page names."""
    found, by_name = {}, {schema.display_name: schema for schema in schemas.values()}
    for node_id, page in written.items():
        named = [one for name, one in by_name.items() if f"[{name}]" in page or f"*{name}*" in page]
        known = set().union(*map(names_of, (schemas[node_id], *named)))
        for entry in schemas[node_id].inputs:
            known |= {*MARKED.findall(entry.tooltip), str(getattr(entry, "default", ""))}
        # not in blocks of code, nor in ``code with `marks` in it``
        text = re.sub(r"```.*?```|``.+?``", "", page, flags=re.DOTALL)
        if unknown := set(MARKED.findall(text)) - known:
            found[node_id] = sorted(unknown)
    assert not found


def test_pictures_of_the_pages_are_there_and_small(written):
    shown = {name for page in written.values() for name in re.findall(r"!\[[^\]]+\]\(pictures/(\w+)\.webp\)", page)}
    files = {file.stem: file.stat().st_size for file in PICTURES.glob("*")}
    scripts = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "dev" / "help").glob("*.py"))
    drawn = re.findall(r"^@drawing\ndef (\w+)", scripts, re.MULTILINE)
    assert sorted(shown) == sorted(files) == sorted(drawn)
    assert sum(files.values()) < MOST_BYTES_OF_PICTURES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# ADE_NoSuchNode\n\nWords.\n", "x.md: there is no node ADE_NoSuchNode"),
        ("# ADE_ADBlockCombo\n\n* `strength`: Words.\n", "x.md: ADE_ADBlockCombo has no input strength"),
        ("# ADE_ADBlockCombo\n\nSee [No Such Node].\n", "links to No Such Node, but no node has that name"),
    ],
)
def test_texts_that_do_not_fit_the_nodes_are_refused(pack, nodes, tmp_path, monkeypatch, text, message):
    (tmp_path / "x.md").write_text(text, encoding="utf-8")
    monkeypatch.setattr(help_pages, "TEXTS", tmp_path)
    with pytest.raises(help_pages.WrongText, match=re.escape(message)):
        help_pages.pages(nodes, pack.submodule("nodes.kinds").source)


def test_a_section_of_several_nodes_serves_those_that_have_the_input(tmp_path, monkeypatch):
    def schema(node_id: str, *names: str) -> SimpleNamespace:
        return SimpleNamespace(node_id=node_id, inputs=[SimpleNamespace(id=name) for name in names])

    (tmp_path / "x.md").write_text(
        "# One, Two\n\nOf both.\n\n* `a`: The\n  first.\n* `b`: Of one.\n\n# Two\n\n* `a`: The last.\n\n## Example\n\nBehind.\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(help_pages, "TEXTS", tmp_path)
    found = help_pages.texts({"One": schema("One", "a", "b"), "Two": schema("Two", "a")})
    assert found["One"] == help_pages.Text(["Of both."], {"a": "The first.", "b": "Of one."}, [])
    assert found["Two"] == help_pages.Text(["Of both."], {"a": "The last."}, ["## Example", "Behind."])
