"""Which motion model files load, and as what."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SD15 = (320, 640, 1280, 1280)
SDXL = (320, 640, 1280)
BASE_UNET = {  # what some training code saves beside the motion modules
    "conv_in.weight": torch.zeros(4, 4, 3, 3),
    "conv_in.bias": torch.zeros(4),
    "time_embedding.linear_1.weight": torch.zeros(4, 4),
    "down_blocks.0.resnets.0.conv1.weight": torch.zeros(4, 4, 3, 3),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": torch.zeros(4, 4),
    "mid_block.resnets.0.norm1.weight": torch.zeros(4),
    "conv_out.weight": torch.zeros(4, 4, 3, 3),
}


def loaded(patcher) -> dict[str, torch.Tensor]:
    return {key: value.cpu() for key, value in patcher.model.state_dict().items()}


def assert_same(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert tensors.keys() == expected.keys()
    for key, value in expected.items():
        # exact, except for the dtype in which the host keeps weights on this device
        assert torch.equal(tensors[key], value.to(tensors[key].dtype)), key


# What a published file is recognised as.

KNOWN = {  # how it is built, extra tensors -> layout, version, family, beta_schedule, frames
    "AnimateDiff v1": (
        {"levels": SD15, "mid": False, "table": 24},
        ("AnimateDiff", "v1", "SD1.5", "sqrt_linear (AnimateDiff)", 24),
    ),
    "AnimateDiff v2": (
        {"levels": SD15, "table": 32},
        ("AnimateDiff", "v2", "SD1.5", "sqrt_linear (AnimateDiff)", 32),
    ),
    "AnimateDiff v3": (
        {"levels": SD15, "mid": False, "table": 32},
        ("AnimateDiff", "v3", "SD1.5", "sqrt_linear (AnimateDiff)", 32),
    ),
    "SDXL beta": (
        {"levels": SDXL, "mid": False, "table": 32},
        ("AnimateDiff", "v1", "SDXL", "linear (AnimateDiff-SDXL)", 32),
    ),
    "HotshotXL": (
        {"levels": SDXL, "mid": False, "table": 24, "layout": "HotshotXL"},
        ("HotshotXL", "v1", "SDXL", "linear (HotshotXL/default)", 24),
    ),
    "AnimateLCM": (
        {"levels": SD15, "mid": False, "table": None},
        ("AnimateLCM", "v1", "SD1.5", "lcm", 64),
    ),
    "diffusers v1": (
        {"levels": SD15, "mid": False, "table": 24, "layout": "diffusers"},
        ("AnimateDiff", "v1", "SD1.5", "sqrt_linear (AnimateDiff)", 24),
    ),
    "diffusers v2": (
        {"levels": SD15, "table": 32, "layout": "diffusers"},
        ("AnimateDiff", "v2", "SD1.5", "sqrt_linear (AnimateDiff)", 32),
    ),
    "diffusers v3": (
        {"levels": SD15, "mid": False, "table": 32, "layout": "diffusers"},
        ("AnimateDiff", "v3", "SD1.5", "sqrt_linear (AnimateDiff)", 32),
    ),
    "diffusers SDXL": (
        {"levels": SDXL, "mid": False, "table": 32, "layout": "diffusers"},
        ("AnimateDiff", "v1", "SDXL", "linear (AnimateDiff-SDXL)", 32),
    ),
    "diffusers AnimateLCM": (
        {"levels": SD15, "mid": False, "table": 64, "layout": "diffusers"},
        ("AnimateLCM", "v1", "SD1.5", "lcm", 64),
    ),
    "two levels": (
        {"levels": (32, 64), "table": 16},
        ("AnimateDiff", "v2", "custom", "sqrt_linear (AnimateDiff)", 16),
    ),
    "another width": (
        {"levels": (64, 128, 256, 256), "mid": False, "table": 32},
        ("AnimateDiff", "v3", "custom", "sqrt_linear (AnimateDiff)", 32),
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_published_layout_is_recognised(files, motion_tensors, name):
    build, expected = KNOWN[name]
    spec, _ = files.interpret("a file", motion_tensors(**build, shapes_only=True), {})
    assert (spec.layout, spec.version, spec.family, spec.beta_schedule, spec.max_frames) == expected
    assert spec.joint_group_norm == (spec.version == "v1")
    assert spec.down == tuple((c, c) for c in build["levels"])
    assert spec.mid == ((build["levels"][-1],) if build.get("mid", True) else ())
    assert spec.up == tuple((c, c, c) for c in reversed(build["levels"]))
    assert (spec.heads, spec.attention_blocks) == (8, 2)


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (
            {"levels": SD15},
            "mm_v2: AnimateDiff v2 for SD1.5, mid block, up to 32 frames, 453.2 M parameters",
        ),
        (
            {"levels": (32, 64), "mid": False, "table": 16},
            "mm_v2: AnimateDiff v1 for a UNet of 32/64 channels, no mid block, up to 16 frames, 0.6 M parameters",
        ),
    ],
)
def test_a_motion_model_describes_itself_in_one_line(files, motion_tensors, build, line):
    spec, _ = files.interpret("mm_v2", motion_tensors(**build, shapes_only=True), {})
    assert str(spec) == line


def test_diffusers_animatelcm_is_told_by_its_name_or_by_tables_that_its_mid_block_lacks(files, motion_tensors):
    tensors = motion_tensors(SD15, table=32, layout="diffusers", shapes_only=True)
    without = {
        key: value for key, value in tensors.items() if not key.startswith("mid_block") or "pos_embed" not in key
    }
    assert len(without) == len(tensors) - 1
    layouts = [
        files.interpret(name, content, {})[0].layout
        for name, content in (("adapter", tensors), ("AnimateLCM_sd15", tensors), ("adapter", without))
    ]
    assert layouts == ["AnimateDiff", "AnimateLCM", "AnimateLCM"]


def test_fancy_video_is_told_by_an_entry_that_need_not_be_a_tensor(files, motion_tensors, write):
    conv_in = {key: value for key, value in BASE_UNET.items() if key.startswith("conv_in.")}
    path = write(motion_tensors(SD15) | conv_in | {"FancyVideo": True}, suffix=".ckpt")
    spec, _ = files.interpret("fancy", *files.read_tensors(path))
    assert (spec.layout, spec.joint_group_norm) == ("FancyVideo", False)


def test_pia_has_its_own_layout_and_a_saved_base_unet_does_not_look_like_it(files, motion_tensors):
    motion = motion_tensors(SD15, mid=False, shapes_only=True)
    conv_in = {key: value for key, value in BASE_UNET.items() if key.startswith("conv_in.")}
    pia, _ = files.interpret("pia", motion | conv_in, {})
    assert (pia.layout, pia.joint_group_norm) == ("PIA", True)
    assert files.interpret("whole UNet", motion | BASE_UNET, {})[0].layout == "AnimateDiff"


# Every tensor comes through unchanged.

FORMS = {  # how the tensors are built -> how the file is wrapped
    "as published": ({}, {}),
    "HotshotXL": ({"layout": "HotshotXL", "mid": False}, {}),
    "diffusers": ({"layout": "diffusers"}, {}),
    "diffusers without mid block": ({"layout": "diffusers", "mid": False}, {}),
    "half precision": ({}, {"dtype": torch.float16}),
    "prefix module.": ({"prefix": "module."}, {}),
    "prefix unet.": ({"prefix": "unet."}, {}),
    "prefix model.diffusion_model.": ({"prefix": "model.diffusion_model."}, {}),
    "diffusers with prefix": ({"layout": "diffusers", "prefix": "motion_adapter."}, {}),
    "with base UNet": ({}, {"extra": BASE_UNET}),
    "one level": ({"levels": (64,)}, {}),
    "one module per level": ({"down": 1, "up": 2}, {}),
    "three modules per level": ({"down": 3, "up": 4, "levels": (32, 64, 64)}, {}),
    "down blocks only": ({"mid": False, "up": 0}, {}),
    "up blocks only": ({"mid": False, "down": 0}, {}),
    "one attention block": ({"attention_blocks": 1}, {}),
    "another table": ({"table": 48}, {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_tensor_is_loaded_unchanged(files, motion_tensors, write, reading, form):
    build, wrapped = FORMS[form]
    tensors = {key: value.to(wrapped.get("dtype", torch.float32)) for key, value in motion_tensors(**build).items()}
    expected = motion_tensors(**{**build, "layout": "AnimateDiff", "prefix": ""})
    if build.get("layout") == "diffusers":  # one table for both attention blocks
        expected |= {
            key.replace("blocks.0.pos_encoder", "blocks.1.pos_encoder"): value
            for key, value in expected.items()
            if key.endswith("attention_blocks.0.pos_encoder.pe")
        }
    patcher = files.load_motion_model(write(tensors | wrapped.get("extra", {})))
    expected = {key: value.to(wrapped.get("dtype", torch.float32)) for key, value in expected.items()}
    assert_same(loaded(patcher), expected)
    assert patcher.model.spec.name == "motion"
    assert not patcher.model.training
    assert not any(parameter.requires_grad for parameter in patcher.model.parameters())


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda tensors: tensors, ""),
        (lambda tensors: {"state_dict": tensors, "epoch": 0, "global_step": 10000}, "module."),
        (
            lambda tensors: {"epoch": 0, "model": {"state_dict": tensors}, "optimizer": {"state": {0: torch.ones(2)}}},
            "",
        ),
        (lambda tensors: {"motion_module": tensors, "lr": 1e-4}, ""),
        (lambda tensors: {**tensors, "animatediff_config": {"use_motion_module": True}, "version": "2"}, "unet."),
    ],
    ids=["bare", "state_dict", "model.state_dict", "motion_module", "animatediff_config"],
)
def test_checkpoints_of_training_code_are_unwrapped(files, motion_tensors, write, wrap, prefix, legacy):
    content = wrap(motion_tensors(prefix=prefix))
    path = write(content, suffix=".ckpt", _use_new_zipfile_serialization=not legacy)
    assert_same(loaded(files.load_motion_model(path)), motion_tensors())


def test_without_tables_the_sinusoids_of_64_frames_are_used(files, motion_tensors, write):
    tensors = loaded(files.load_motion_model(write(motion_tensors(table=None))))
    tables = {key: value for key, value in tensors.items() if key.endswith(".pe")}
    assert len(tables) == 2 * (2 * 2 + 1 + 2 * 3)
    for table in tables.values():
        _, frames, channels = table.shape
        assert frames == 64
        angle = 5 / 10000 ** (2 * 3 / channels)
        assert table[0, 5, 6].item() == pytest.approx(torch.tensor(angle).sin().item(), abs=1e-5)
        assert table[0, 5, 7].item() == pytest.approx(torch.tensor(angle).cos().item(), abs=1e-5)


@pytest.mark.parametrize(("metadata", "heads"), [(None, 8), ({"animatediff.heads": "4"}, 4), ({"author": "me"}, 8)])
def test_heads_come_from_the_metadata(files, motion_tensors, write, reading, metadata, heads):
    model = files.load_motion_model(write(motion_tensors(), metadata=metadata)).model
    assert model.spec.heads == heads
    assert {module.heads for module in model.modules() if hasattr(module, "heads")} == {heads}


# The host's copies of it.


@pytest.fixture
def patcher(files, motion_tensors, write):
    return files.load_motion_model(write(motion_tensors()))


@pytest.mark.parametrize("way", ["fresh_copy", "host"])
def test_a_copy_has_equal_weights_of_its_own(pack, patcher, way):
    import comfy.model_patcher

    assert isinstance(patcher, comfy.model_patcher.ModelPatcher)
    if way == "fresh_copy":
        copy = pack.submodule("motion_models.files.motion_model").fresh_copy(patcher)
        assert type(copy) is type(patcher)
    else:  # as the host does for its clones on another device
        function, arguments = patcher.cached_patcher_init[:2]
        copy = function(*arguments, disable_dynamic=True)
        assert type(copy) is comfy.model_patcher.ModelPatcher
    before = {key: value.clone() for key, value in loaded(patcher).items()}
    assert_same(loaded(copy), before)
    assert copy.model.spec == patcher.model.spec
    for value in copy.model.state_dict().values():
        value.zero_()
    assert_same(loaded(patcher), before)


# Any shape.


# too_slow: before its first integer, hypothesis looks for constants in every module of the pack
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    levels=st.lists(st.integers(1, 40).map(lambda n: 32 * n), min_size=1, max_size=5).map(tuple),
    down=st.integers(0, 3),
    mid=st.booleans(),
    up=st.integers(0, 4),
    attention_blocks=st.integers(1, 3),
    table=st.none() | st.integers(1, 128),
    layout=st.sampled_from(["AnimateDiff", "diffusers", "HotshotXL"]),
    prefix=st.sampled_from(["", "module.", "model.diffusion_model."]),
)
def test_any_motion_model_is_read_as_what_it_was_built(
    files, motion_tensors, levels, down, mid, up, attention_blocks, table, layout, prefix
):
    if not down and not up:
        down = 1
    if layout == "diffusers":  # has names for two, no more and no less
        attention_blocks = 2
    shape = {"down": down, "mid": mid, "up": up, "attention_blocks": attention_blocks, "table": table}
    build = motion_tensors(levels, **shape, layout=layout, prefix=prefix, shapes_only=True)
    spec, tensors = files.interpret("any", build, {})
    assert spec.down == (tuple((c,) * down for c in levels) if down else ())
    assert spec.mid == ((levels[-1],) if mid else ())
    assert spec.up == (tuple((c,) * up for c in levels[::-1]) if up else ())
    assert spec.levels == levels
    assert spec.attention_blocks == attention_blocks
    assert spec.max_frames == (table or 64)
    assert "\n" not in str(spec)
    expected = motion_tensors(levels, **shape, shapes_only=True)
    assert {key: value.shape for key, value in tensors.items()} == {key: value.shape for key, value in expected.items()}
    assert spec.parameters == sum(value.numel() for key, value in expected.items() if not key.endswith(".pe"))


# The table of layouts.


def test_every_layout_names_noise_schedules_that_there_are(pack):
    schedules = pack.submodule("sampling.schedules.beta_schedules").SCHEDULES
    for layout in pack.submodule("motion_models.layouts").LAYOUTS.values():
        assert {layout.beta_schedule, layout.sdxl_beta_schedule} <= schedules.keys(), layout.name
