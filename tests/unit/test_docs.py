"""Pages that are made from the code are those that the code makes now."""

from pathlib import Path

from animatediff_dev_pack import ROOT, import_file

node_index = import_file("animatediff_dev_node_index", Path(ROOT) / "dev" / "node_index.py")


def test_the_node_index_lists_the_nodes_as_they_are(pack):
    made = node_index.page(pack.submodule("nodes").NODES)
    assert node_index.PAGE.read_text(encoding="utf-8") == made, "run: python dev/node_index.py"


def test_every_node_says_what_it_does(pack):
    for node in pack.submodule("nodes").NODES:
        schema = node.GET_SCHEMA()
        assert schema.description, schema.node_id
