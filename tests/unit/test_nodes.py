"""What holds for every node of ours: one base, one way to say that an input is empty."""

from __future__ import annotations

import inspect

import pytest


@pytest.fixture(scope="session")
def base(pack):
    return pack.submodule("nodes.base")


@pytest.fixture(scope="session")
def nodes(pack) -> list[type]:
    return pack.submodule("nodes").NODES


def test_every_node_stands_on_the_one_base(nodes, base):
    assert len(nodes) > 100
    for node in nodes:
        assert issubclass(node, base.Node)
        assert "execute" not in vars(node), node


def test_every_input_arrives_where_the_work_is_done(nodes):
    for node in nodes:
        schema = node.GET_SCHEMA()
        ids = [entry.id for entry in schema.inputs]
        inspect.signature(node.run).bind(**dict.fromkeys(ids))
        required = [entry.id for entry in schema.inputs if not entry.optional]
        inspect.signature(node.run).bind(**dict.fromkeys(required))
        assert not set(node.renamed) & set(ids)
        assert set(node.renamed.values()) <= set(ids)


def test_an_empty_required_input_is_named_with_what_to_connect(nodes, base):
    checked = 0
    for node in nodes:
        schema = node.GET_SCHEMA()
        required = [entry for entry in schema.inputs if not entry.optional]
        empty = [None] if schema.is_input_list else None
        for entry in required:
            filled = {other.id: [object()] for other in required}
            for inputs in ({**filled, entry.id: empty}, {k: v for k, v in filled.items() if k != entry.id}):
                with pytest.raises(base.EmptyInput) as error:
                    node.execute(**inputs)
                assert f"The input {entry.id} of {schema.display_name} is empty" in str(error.value)
                assert "Connect " in str(error.value)
                checked += 1
    assert checked > 500


def test_messages_send_users_to_nodes_that_give_what_is_missing(nodes, pack):
    """Every type of socket is in the table, and a node of ours that it names has such an output."""
    sources = {io_type: kind.source for io_type, kind in pack.submodule("nodes.kinds").KINDS.items()}
    gives = {}
    for node in nodes:
        schema = node.GET_SCHEMA()
        gives[schema.display_name] = {str(output.io_type) for output in schema.outputs}
    types = {str(entry.get_io_type()) for node in nodes for entry in node.GET_SCHEMA().inputs}
    assert types - sources.keys() == {"IMAGE_INJECT"}  # nothing gives it yet
    ours = {kind: sources[kind] for kind in types & set.union(*gives.values()) if sources[kind] in gives}
    assert len(ours) > 15
    for kind, name in ours.items():
        assert kind in gives[name], f"{name} gives no {kind}"


def test_an_empty_optional_input_is_not_connected(base):
    from comfy_api.latest import io

    seen = []
    node = base.node(
        lambda a, b=5: seen.append((a, b)),
        node_id="Test",
        display_name="Test",
        category="test",
        description="",
        inputs=[io.Int.Input("a"), io.Int.Input("b", optional=True)],
        outputs=[],
    )
    node.execute(a=0, b=None)
    node.execute(a=0, b=1)
    assert seen == [(0, 5), (0, 1)]


def test_the_name_of_before_counts_where_the_new_one_is_empty(base, pack, monkeypatch):
    node = pack.submodule("nodes.legacy").AnimateDiffLoaderWithContext
    monkeypatch.setattr(node, "run", lambda **inputs: inputs)
    required = {"model": [1], "model_name": "m", "beta_schedule": "autoselect"}
    for inputs in (
        {"motion_model_settings": "old", "ad_settings": None},
        {"ad_settings": None, "motion_model_settings": "old"},
    ):
        assert node.execute(**required, **inputs).result[0]["ad_settings"] == "old"
