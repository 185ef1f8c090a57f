"""What is said about motion models with something wrong in them."""

import pytest
import torch

DOWN = "down_blocks.0.motion_modules.0.temporal_transformer."


def without(*beginnings: str):
    return lambda tensors: {key: value for key, value in tensors.items() if not key.startswith(beginnings)}


def with_tensor(key: str, shape: tuple[int, ...]):
    return lambda tensors: tensors | {key: torch.zeros(shape)}


DEFECTS = {  # what is done to the file -> words that must be in the message
    "tensor missing": (without(f"{DOWN}proj_out.bias"), (f"missing ({DOWN}proj_out.bias)",)),
    "first norm missing": (without(f"{DOWN}norm.weight"), (f"missing ({DOWN}norm.weight)",)),
    "last norm missing": (
        without("up_blocks.1.motion_modules.2.temporal_transformer.norm.weight"),
        ("missing (up_blocks.1.motion_modules.2.temporal_transformer.norm.weight)",),
    ),
    "attention block missing": (
        without(*(f"{DOWN}transformer_blocks.0.{part}.1." for part in ("attention_blocks", "norms"))),
        ("missing", f"{DOWN}transformer_blocks.0.attention_blocks.1.to_q.weight"),
    ),
    "unknown tensor": (
        with_tensor(f"{DOWN}transformer_blocks.0.adapter.weight", (32, 32)),
        (f"unknown ({DOWN}transformer_blocks.0.adapter.weight)",),
    ),
    "bias where there is none": (
        with_tensor(f"{DOWN}transformer_blocks.0.attention_blocks.0.to_q.bias", (32,)),
        (f"unknown ({DOWN}transformer_blocks.0.attention_blocks.0.to_q.bias)",),
    ),
    "first level missing": (without("down_blocks.0."), ("missing (down_blocks.0)",)),
    "last level missing": (without("down_blocks.1."), ("missing (down_blocks.1)",)),
    "first module missing": (without("up_blocks.1.motion_modules.0."), ("missing (up_blocks.1.motion_modules.0)",)),
    "weight of another shape": (
        with_tensor(f"{DOWN}proj_in.weight", (32, 64)),
        ("wrong shape", f"{DOWN}proj_in.weight is (32, 64), not (32, 32)"),
    ),
    "convolution instead of linear": (
        with_tensor(f"{DOWN}proj_in.weight", (32, 32, 1, 1)),
        ("wrong shape", f"{DOWN}proj_in.weight is (32, 32, 1, 1), not (32, 32)"),
    ),
    "norm of another width": (
        with_tensor(f"{DOWN}norm.weight", (64,)),
        ("wrong shape", f"{DOWN}proj_in.weight is (32, 32), not (64, 64)"),
    ),
    "norm without elements": (
        with_tensor(f"{DOWN}norm.weight", (0,)),
        ("0, 32, 64 channels", "multiple of 32", "more than 0"),
    ),
    "norm that is a number": (with_tensor(f"{DOWN}norm.weight", ()), ("1, 32, 64 channels", "multiple of 32")),
    "flat table": (
        with_tensor(f"{DOWN}transformer_blocks.0.attention_blocks.0.pos_encoder.pe", (32 * 32,)),
        ("wrong shape", "pos_encoder.pe is (1024,), not (1, 32, 32)"),
    ),
    "longer table": (
        with_tensor(f"{DOWN}transformer_blocks.0.attention_blocks.0.pos_encoder.pe", (1, 48, 32)),
        ("wrong shape", "pos_encoder.pe is (1, 48, 32), not (1, 32, 32)"),
    ),
    "far block": (
        with_tensor("up_blocks.999999999.motion_modules.0.temporal_transformer.norm.weight", (32,)),
        ("missing",),
    ),
    "far attention block": (
        with_tensor(f"{DOWN}transformer_blocks.0.attention_blocks.999999999.to_q.weight", (32, 32)),
        ("missing", "unknown"),
    ),
    "other names inside": (
        lambda tensors: {
            key.replace("temporal_transformer.", "temporal_transformer.inner."): v for key, v in tensors.items()
        },
        ("looks like a motion model", "missing"),
    ),
    "other blocks": (
        lambda tensors: {
            key.replace("_blocks.", "_layers.").replace("mid_block.", "middle."): v for key, v in tensors.items()
        },
        ("looks like a motion model", "missing"),
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defective_motion_model_is_refused_with_the_tensors_concerned(
    motion_tensors, write, refusal, reading, defect
):
    change, words = DEFECTS[defect]
    message = refusal(write(change(motion_tensors()), "mm_fine_tune"))
    assert "motion m" in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("heads", ["0", "-8", "eight", "7", "", pytest.param("9" * 5000, id="5,000 digits")])
def test_heads_that_do_not_divide_the_channels_are_refused(motion_tensors, write, refusal, heads):
    assert "heads" in refusal(write(motion_tensors(), metadata={"animatediff.heads": heads}))


def test_channels_that_the_group_norms_do_not_divide_are_refused(motion_tensors, write, refusal):
    assert "48 channels" in refusal(write(motion_tensors((48,))))


def test_a_long_list_of_tensors_is_cut(motion_tensors, write, refusal):
    tensors = {key: value for key, value in motion_tensors().items() if not key.endswith(".bias")}
    assert "more)" in refusal(write(tensors))


# Position tables.


def test_tables_without_a_frame_are_refused(motion_tensors, write, refusal):
    message = refusal(write(motion_tensors(table=0)))
    assert "position tables of 0 frames" in message
    assert "1 to 4,096" in message


def test_tables_that_no_motion_model_has_are_refused(files, motion_tensors, write, refusal):
    message = refusal(write(motion_tensors((32,), down=1, up=1, table=4097)))
    assert "position tables of 4,097 frames" in message
    assert "published ones have 24 to 64" in message
    whole = motion_tensors((32,), down=1, up=1, table=4096)
    assert files.load_motion_model(write(whole)).model.spec.max_frames == 4096


def test_many_attention_blocks_are_refused(motion_tensors, write, refusal):
    extra = {
        f"{DOWN}transformer_blocks.0.attention_blocks.{i}.to_q.weight": torch.zeros(32, 32) for i in range(2, 1000)
    }
    assert "1,000 attention blocks" in refusal(write(motion_tensors() | extra))


# Numbers.

NAME = "down_blocks.1.motion_modules.0.temporal_transformer.proj_in.weight"
NAN, INF = float("nan"), float("inf")


def one(number: float, dtype: torch.dtype = torch.float32):
    """A weight that is right but for one element."""

    def change(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        value[3, 5] = number
        return value.to(dtype)

    return change


IMPOSSIBLE = {  # what is done to a weight -> words about it
    "NaN": (one(NAN), "holds NaN or infinity"),
    "infinity": (one(INF), "holds NaN or infinity"),
    "minus infinity": (one(-INF), "holds NaN or infinity"),
    "both infinities": (lambda value: one(INF)(one(-INF)(value.T).T), "holds NaN or infinity"),
    "half precision": (one(NAN, torch.float16), "holds NaN or infinity"),
    "bfloat16": (one(INF, torch.bfloat16), "holds NaN or infinity"),
    "double precision": (one(NAN, torch.float64), "holds NaN or infinity"),
    "float8 e4m3": (one(NAN, torch.float8_e4m3fn), "holds NaN or infinity"),
    "float8 e5m2": (one(INF, torch.float8_e5m2), "holds NaN or infinity"),
    "integers": (lambda value: (value * 100).to(torch.int64), "holds integers"),
    "bytes": (lambda value: (value * 100).to(torch.int8), "holds integers"),
    "booleans": (lambda value: value > 0, "holds booleans"),
    "complex": (lambda value: value.to(torch.complex64), "holds complex numbers"),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_weights_that_cannot_be_right_are_refused(motion_tensors, write, refusal, kind, suffix):
    change, words = IMPOSSIBLE[kind]
    tensors = motion_tensors()
    message = refusal(write(tensors | {NAME: change(tensors[NAME])}, suffix=suffix))
    assert f"'motion{suffix}'" in message
    assert f"{NAME} {words}" in message
    assert "another version" in message


def test_how_many_weights_are_wrong_is_said(motion_tensors, write, refusal):
    tensors = {key: value * NAN for key, value in motion_tensors().items()}
    assert f"({len(tensors) - 1} more of its {len(tensors)} tensors are no better)" in refusal(write(tensors))


def test_tables_that_cannot_be_right_are_refused(motion_tensors, write, refusal):
    table = f"{DOWN}transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
    assert f"{table} holds NaN" in refusal(write(motion_tensors() | {table: torch.full((1, 32, 32), NAN)}))


def test_sparse_weights_and_weights_without_values_are_refused(motion_tensors, write, refusal):
    tensors = motion_tensors()
    sparse = tensors | {NAME: tensors[NAME].to_sparse()}
    assert f"{NAME} is sparse" in refusal(write(sparse, suffix=".ckpt"))
    nothing = tensors | {NAME: torch.empty(64, 64, device="meta")}
    assert f"{NAME} has no values" in refusal(write(nothing, suffix=".ckpt"))


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_large_weights_are_let_through(pack, dtype):
    """Their sum would be infinite."""
    refuse = pack.submodule("motion_models.files.numbers").refuse_impossible_numbers
    largest = torch.full((64, 64), torch.finfo(dtype).max, dtype=torch.float32).to(dtype)
    refuse("large", {"both": largest, "none": torch.zeros(0, dtype=dtype), "alpha": torch.tensor(8)})


def test_a_sparse_control_that_cannot_be_right_is_refused(pack, files, motion_tensors):
    control = pack.submodule("motion_models.adapters.sparse_control")
    info = control.AnimateDiffInfo("SD1.5", "AnimateDiff", "v3", "v3_sparse.ckpt")
    tensors = motion_tensors(mid=False, up=0)
    control.ControlMotionModel(tensors, info)
    with pytest.raises(files.MotionModelFileError, match=r"'v3_sparse\.ckpt' cannot be used: .* holds NaN"):
        control.ControlMotionModel(tensors | {NAME: tensors[NAME] * NAN}, info)
