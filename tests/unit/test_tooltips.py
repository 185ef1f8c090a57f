"""Nodes explain themselves: every input and every output says what it is for."""

import re

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
    for where, text in texts:
        if text:
            assert re.match(r"[^a-z].*[.!?]$", text), f"{where}: {text!r}"
            assert len(text) <= 300, f"{where}: {text!r}"
