"""Nodes explain themselves: every input and every output says what it is for."""

import pytest


@pytest.fixture(scope="session")
def texts(pack) -> list[tuple[str, str | None]]:
    """(where, tooltip) of every input and output of every node."""
    found = []
    for node in pack.submodule("nodes").NODES:
        schema = node.GET_SCHEMA()
        found += [(f"{schema.node_id}: input {entry.id}", entry.tooltip) for entry in schema.inputs]
        found += [
            (f"{schema.node_id}: output {number} {output.display_name or output.io_type}", output.tooltip)
            for number, output in enumerate(schema.outputs)
        ]
    return found


def test_every_input_and_output_has_a_tooltip(texts):
    assert len(texts) > 700
    silent = [where for where, text in texts if not text]
    assert not silent, "\n".join(["no tooltip:", *silent])


def test_tooltips_are_short_sentences(texts):
    odd = [
        f"{where}: {text!r}"
        for where, text in texts
        if text and not (10 <= len(text) <= 300 and text == text.strip() and text[-1] in ".?!…")
    ]
    assert not odd, "\n".join(["no short sentences:", *odd])


def test_seeds_of_training_stay_from_run_to_run(pack):
    """Else the front end draws a new one at each run, and all is trained again."""
    from comfy_api.latest import io

    schemas = [node.GET_SCHEMA() for node in pack.submodule("nodes.training").NODES]
    seeds = [entry for schema in schemas for entry in schema.inputs if entry.id == "seed"]
    assert len(seeds) == len(schemas) == 3
    # 0.3.75 cannot be told so
    expected = "fixed" if hasattr(io, "ControlAfterGenerate") else None
    assert [seed.as_dict().get("control_after_generate") for seed in seeds] == [expected] * 3
