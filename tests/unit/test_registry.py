"""Other packs that serve the same node ids."""

import logging


def test_another_pack_with_our_node_ids_is_named_once(pack, caplog, monkeypatch):
    import nodes

    class Theirs:
        RELATIVE_PYTHON_MODULE = "custom_nodes.ComfyUI-AnimateDiff-Evolved"

    ids = ["ADE_LoadAnimateDiffModel", "ADE_UseEvolvedSampling"]
    for node_id in ids:
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, node_id, Theirs)
    with caplog.at_level(logging.WARNING):
        pack.submodule("host.registry").warn_about_other_packs(ids)
    [record] = caplog.records
    assert "custom_nodes.ComfyUI-AnimateDiff-Evolved already provides" in record.getMessage()
    assert "disable the other" in record.getMessage()


def test_silence_without_another_pack(pack, caplog):
    pack.submodule("host.registry").warn_about_other_packs(["ADE_NobodyHasThis"])
    assert not caplog.records


def test_our_nodes_package_does_not_hide_the_hosts(pack):
    import nodes

    assert hasattr(nodes, "NODE_CLASS_MAPPINGS")
    assert nodes is not pack.submodule("nodes")
