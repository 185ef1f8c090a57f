"""What holds for every node of ours: one base, one way to say that an input is empty."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch


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
    inputs = (entry for node in nodes for entry in node.GET_SCHEMA().inputs)
    types = {name for entry in inputs for name in str(entry.get_io_type()).split(",")}
    assert types <= sources.keys()
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


def test_the_name_of_before_counts_where_the_new_one_is_empty(base, pack):
    schema = pack.submodule("nodes.deprecated.loaders").AnimateDiffLoaderWithContext.GET_SCHEMA()
    renamed = pack.submodule("nodes.deprecated.loaders").AnimateDiffLoaderWithContext.renamed
    required = {
        "model": SimpleNamespace(clone=None, model_options={}),
        "model_name": "m",
        "beta_schedule": "autoselect",
    }
    old = pack.submodule("motion_models.files.adjust").Adjustments()
    for inputs in (
        {"motion_model_settings": old, "ad_settings": None},
        {"ad_settings": None, "motion_model_settings": old},
    ):
        assert base.filled(schema, {**required, **inputs}, renamed)["ad_settings"] is old


WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
# What fits nowhere.
NONSENSE = {
    "an object": object(),
    "a list of texts": ["a", "b"],
    "a dictionary": {"a": "b"},
    "a tensor of five dimensions": torch.zeros(1, 4, 2, 8, 8),
    "a tuple of texts": ("a",),
}
EMPTY = {
    "MASK": torch.zeros(0, 8, 8),
    "IMAGE": torch.zeros(2, 0, 8, 3),
    "LATENT": {"samples": torch.zeros(0, 4, 8, 8)},
    "MULTIVAL": torch.zeros(0, 8, 8),
    "SIGMAS": torch.zeros(0),
    "CONDITIONING": [],
}


def one_input(base, schema, entry, value):
    """What `filled` makes of one input, as if the node had no other."""
    alone = SimpleNamespace(
        inputs=[entry], is_input_list=schema.is_input_list, node_id=schema.node_id, display_name=schema.display_name
    )
    return base.filled(alone, {entry.id: [value] if schema.is_input_list else value}, {})


@pytest.mark.parametrize("kind", NONSENSE)
def test_what_is_no_such_thing_is_refused_by_name(nodes, base, kind):
    checked = 0
    for node in nodes:
        for entry in node.GET_SCHEMA().inputs:
            schema = node.GET_SCHEMA()
            with pytest.raises(base.WrongInput) as error:
                one_input(base, schema, next(e for e in schema.inputs if e.id == entry.id), NONSENSE[kind])
            assert f"The input {entry.id} of {schema.display_name} got " in str(error.value)
            assert " in place of " in str(error.value)
            checked += 1
    assert checked > 600


def test_things_with_nothing_in_them_are_refused(nodes, base):
    checked = set()
    for node in nodes:
        for number, entry in enumerate(node.GET_SCHEMA().inputs):
            kind = str(entry.get_io_type())
            if kind in EMPTY:
                schema = node.GET_SCHEMA()
                with pytest.raises(base.WrongInput, match=r"got an empty .* in place of"):
                    one_input(base, schema, schema.inputs[number], EMPTY[kind])
                checked.add(kind)
    assert checked == set(EMPTY)


def test_context_options_at_an_apply_node_are_refused_there(nodes, base, pack):
    """They were first missed by the node that comes after it."""
    context = pack.submodule("nodes.sampling.context").NODES[0]
    (options,) = context.execute(context_length=16, context_overlap=4).result
    schema = pack.submodule("nodes.motion_models.apply").ApplyAnimateDiffModel.GET_SCHEMA()
    for name in ("prev_m_models", "motion_lora", "ad_keyframes", "per_block", "scale_multival"):
        entry = next(entry for entry in schema.inputs if entry.id == name)
        message = f"The input {name} of AnimateDiff: Apply Model \\(Advanced\\) got context options in place of"
        with pytest.raises(base.WrongInput, match=message):
            one_input(base, schema, entry, options)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3.5, "the number 3.5"),
        ("hello", "a text"),
        (True, "yes or no"),
        ([1, 2], "a list of 2"),
        (torch.zeros(2, 3), r"a tensor of the shape \(2, 3\)"),
        ({"samples": torch.zeros(1, 4, 8, 8)}, "latents"),
        (object(), "a thing of the type object"),
        ((), "a thing of the type tuple"),
    ],
)
def test_what_came_instead_is_told_in_words(pack, base, value, words):
    schema = pack.submodule("nodes.motion_models.apply").ApplyAnimateDiffModel.GET_SCHEMA()
    with pytest.raises(
        base.WrongInput, match=f"got {words} in place of a motion model. Connect AnimateDiff: Load Model"
    ):
        one_input(base, schema, schema.inputs[0], value)


def test_a_linked_choice_is_compared_with_the_choices(pack, base):
    node = pack.submodule("nodes.sampling.sigma_schedules").NODES[0]
    with pytest.raises(base.WrongInput, match=r"got 'wavy', which is none of its choices: .*linear"):
        node.execute(beta_schedule="wavy")


@pytest.mark.parametrize("given", [[0.5, 1.0], (0.5, 1.0), torch.tensor([0.5, 1.0]), np.array([0.5, 1.0])])
def test_lists_arrive_where_a_number_for_each_frame_may(pack, given):
    by_id = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}
    assert by_id["ADE_MultivalDynamic"].execute(float_val=given).result[0].flatten().tolist() == [0.5, 1.0]
    assert by_id["ADE_FloatToFloats"].execute(FLOAT=given).result[0] == [0.5, 1.0]


def test_lists_do_not_arrive_where_one_number_is_meant(pack, base):
    node = pack.submodule("nodes.lora").LoadMotionLora
    with pytest.raises(base.WrongInput, match="strength of Load AnimateDiff LoRA got a list of 2 in place of a number"):
        schema = node.GET_SCHEMA()
        one_input(base, schema, schema.inputs[1], [0.5, 1.0])


@pytest.mark.parametrize("given", [[], ()])
def test_an_empty_list_of_numbers_is_refused(pack, base, given):
    node = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}["ADE_CustomCFGKeyframeFromList"]
    with pytest.raises(base.WrongInput, match=r"cfgs_float .* got an empty list"):
        node.execute(cfgs_float=given, start_percent=0.0, end_percent=1.0, print_keyframes=False)


def test_masks_of_other_packs_are_masks(pack, base):
    node = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}["ADE_MultivalDynamic"]
    for shape in ((8, 8), (2, 8, 8), (2, 1, 8, 8)):
        assert node.execute(float_val=1.0, mask_optional=torch.ones(shape)).result[0].shape[-2:] == (8, 8)
    with pytest.raises(base.WrongInput, match="in place of a mask"):
        node.execute(float_val=1.0, mask_optional=torch.ones(2, 8, 8, 3))  # pictures


def test_the_host_runs_nodes_as_locked_clones(pack, base):
    """Nothing may be assigned to the class that a node runs in."""
    from comfy_api.internal import make_locked_method_func

    by_id = {node.GET_SCHEMA().node_id: node for node in pack.submodule("nodes").NODES}

    def run(node_id: str, **inputs):
        node = by_id[node_id]
        return make_locked_method_func(node, node.FUNCTION, node.PREPARE_CLASS_CLONE(None))(**inputs)

    assert run("ADE_MultivalDynamic", float_val=0.5, mask_optional=None).result[0] == 0.5
    with pytest.raises(base.EmptyInput, match="The input motion_model of AnimateDiff: Apply Model is empty"):
        run("ADE_ApplyAnimateDiffModelSimple", motion_model=None)
    with pytest.raises(base.EmptyInput, match="The input model of Train MotionLoRA is empty"):
        run("AnimateDiffTrainMotionLoRA", latents=[None], model=[None])
