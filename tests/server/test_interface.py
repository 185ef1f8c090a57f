"""The served interface of every node against the incumbent's: what workflow files and API prompts rely on."""

import pytest
from animatediff_dev_reference import interface

INCUMBENT = interface()
# Widget settings that change how a stored value is read, or what an omitted one becomes. Tooltips are ours.
RELEVANT = ("default", "min", "max", "step", "round", "forceInput", "multiline", "rawLink", "lazy")


def inputs(info: dict, group: str) -> list[tuple]:
    """Name, type, combo options and relevant settings of each input, in order."""
    found = []
    for name, (kind, *settings) in info.get(group, {}).items():
        settings = settings[0] if settings else {}
        options = settings.get("options")
        if isinstance(kind, list):  # the older notation of combos
            kind, options = "COMBO", kind
        relevant = {key: settings[key] for key in RELEVANT if settings.get(key) is not None}
        if not relevant.get("multiline"):
            relevant.pop("multiline", None)  # one line is what it is without this setting
        if relevant.get("forceInput"):
            relevant.pop("default", None)  # there is no widget for it; ours have none (docs/differences.md)
        found.append((name, kind, options, relevant))
    return found


@pytest.fixture(scope="module")
def served(server) -> dict:
    return server.object_info()


@pytest.mark.compares("node interfaces", sorted(INCUMBENT))
@pytest.mark.parametrize("node_id", sorted(INCUMBENT))
def test_interface(served, compared, node_id):
    ours, theirs = served[node_id], INCUMBENT[node_id]
    compared(node_id)
    for group in ("required", "optional"):
        mine = inputs(ours["input"], group)
        for position, expected in enumerate(inputs(theirs, group)):
            if expected[2] == []:  # a list of files, empty where the interface was recorded
                expected = (*expected[:2], mine[position][2], mine[position][3])
            assert mine[position] == expected
        assert len(mine) == len(inputs(theirs, group))
    for key in ("output", "output_is_list", "output_name", "output_node", "is_input_list"):
        assert list(ours[key] or []) == list(theirs[key]) if isinstance(theirs[key], list) else ours[key] == theirs[key]


def test_inputs_without_a_widget_offer_no_value(served):
    """Programs that make API prompts of workflow files would send it: a seed_override of 0 pins the noise."""
    offered, without = [], 0
    for node_id, info in served.items():
        if info["python_module"].endswith("AnimateDiff-Next"):
            for name, (_, *settings) in {
                **info["input"].get("required", {}),
                **info["input"].get("optional", {}),
            }.items():
                if settings and settings[0].get("forceInput"):
                    without += 1
                    offered += [f"{node_id}.{name}"] if "default" in settings[0] else []
    assert without > 10
    assert not offered


def test_categories_and_names_are_ours_in_plain_words(served):
    for node_id, info in served.items():
        if info["python_module"].endswith("AnimateDiff-Next"):
            assert info["category"].startswith("AnimateDiff")
            assert info["display_name"].isascii(), node_id


def test_without_motion_models_the_pack_loads_and_says_where_they_go(new_server, host):
    with new_server(host) as empty:
        name = empty.object_info("ADE_LoadAnimateDiffModel")["input"]["required"]["model_name"]
        assert "Put motion models there" in name[1]["tooltip"]
        assert (empty.run / "models" / "animatediff_models").is_dir()
        assert (empty.run / "models" / "animatediff_motion_lora").is_dir()
        assert empty.log().count("already provides nodes") == 0
