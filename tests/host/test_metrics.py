"""The CLIP measures, with tiny CLIPs of the host's own classes."""

import json
from types import SimpleNamespace

import pytest
import torch

PROJECTION = 24
VISION = {
    "hidden_size": 32,
    "image_size": 32,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "model_type": "clip_vision_model",
    "num_attention_heads": 2,
    "num_channels": 3,
    "num_hidden_layers": 2,
    "patch_size": 8,
    "projection_dim": PROJECTION,
}
TEXT = {"hidden_size": PROJECTION, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 3}


def randomise(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3


@pytest.fixture
def clip_vision(host_path, tmp_path):
    """`clip_vision(**changes of its configuration)`: a CLIP_VISION of random weights."""

    def new(**changes):
        from comfy.clip_vision import ClipVisionModel

        path = tmp_path / "vision.json"
        path.write_text(json.dumps({**VISION, **changes}), encoding="utf-8")
        model = ClipVisionModel(str(path))
        randomise(model.model)
        return model

    return new


@pytest.fixture
def clip(host_path):
    """`clip("g" or "l")`: a CLIP as Load CLIP makes it for that text encoder alone, of random weights."""

    def new(name: str):
        import comfy.sd
        import comfy.sd1_clip
        import comfy.sdxl_clip
        import comfy.supported_models_base

        classes = {
            "g": (comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLRefinerClipModel),
            "l": (comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
        }
        target = comfy.supported_models_base.ClipTarget(*classes[name])
        model = comfy.sd.CLIP(target, model_options={f"clip_{name}_model_config": TEXT})
        randomise(model.cond_stage_model)
        return model

    return new


@pytest.fixture(scope="module")
def measure(pack):
    return pack.submodule("metrics.animation").measure


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.rand(20, 40, 48, 3, generator=torch.Generator().manual_seed(1))


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / a.norm() / b.norm())


@torch.inference_mode()
def test_measures_are_cosines_of_the_hosts_embeddings(measure, clip_vision, clip, frames):
    vision, text, stills = clip_vision(), clip("g"), frames[:3].flip(1)
    found = measure(frames, clip_vision=vision, stills=stills, clip=text, text="a red circle")

    pictures = vision.encode_image(frames)["image_embeds"]
    references = vision.encode_image(stills)["image_embeds"]
    _, words = text.encode_from_tokens(text.tokenize("a red circle"), return_pooled=True)
    smoothness = [100 * cosine(pictures[i], pictures[i + 1]) for i in range(19)]
    domain = [100 * sum(cosine(picture, still) for still in references) / 3 for picture in pictures]
    alignment = [100 * cosine(picture, words[0]) for picture in pictures]
    for measured, expected in (
        (found.motion_smoothness, smoothness),
        (found.domain_similarity, domain),
        (found.text_alignment, alignment),
    ):
        assert measured.curve.tolist() == pytest.approx(expected, abs=1e-2)
        assert measured.value == pytest.approx(sum(expected) / len(expected), abs=1e-2)


@torch.inference_mode()
def test_a_still_clip_is_100_smooth_and_100_like_itself(measure, clip_vision, frames):
    still = frames[:1].repeat(4, 1, 1, 1)
    found = measure(still, clip_vision=clip_vision(), stills=still)
    assert found.motion_smoothness.value == pytest.approx(100, abs=1e-3)
    assert found.domain_similarity.value == pytest.approx(100, abs=1e-3)


@torch.inference_mode()
def test_reference_stills_may_have_another_size(measure, clip_vision, frames):
    stills = torch.nn.functional.interpolate(frames.movedim(-1, 1), size=(24, 64)).movedim(1, -1)
    assert measure(frames, clip_vision=clip_vision(), stills=stills).domain_similarity.value is not None


@torch.inference_mode()
def test_the_text_encoder_of_sd15_has_no_projection(measure, clip_vision, clip, frames):
    found = measure(frames, clip_vision=clip_vision(), clip=clip("l"), text="a red circle")
    assert found.text_alignment.value is None
    assert "no text projection" in found.text_alignment.not_available
    assert found.motion_smoothness.value is not None


@torch.inference_mode()
def test_halves_of_two_clips_are_not_compared(measure, clip_vision, clip, frames):
    found = measure(frames, clip_vision=clip_vision(projection_dim=16), clip=clip("g"), text="a red circle")
    assert "not the two halves of one CLIP" in found.text_alignment.not_available


@torch.inference_mode()
@pytest.mark.parametrize("text", ["", " \n"])
def test_without_a_text_there_is_no_alignment(measure, clip_vision, clip, frames, text):
    found = measure(frames, clip_vision=clip_vision(), clip=clip("g"), text=text)
    assert "enter the text" in found.text_alignment.not_available


@torch.inference_mode()
def test_vision_models_without_a_projection_are_refused(measure, host_path, tmp_path, frames):
    from comfy.clip_vision import ClipVisionModel

    siglip = {**VISION, "model_type": "siglip_vision_model"}
    del siglip["projection_dim"]
    path = tmp_path / "siglip.json"
    path.write_text(json.dumps(siglip), encoding="utf-8")
    found = measure(frames, clip_vision=ClipVisionModel(str(path)), stills=frames)
    for measured in (found.motion_smoothness, found.domain_similarity, found.text_alignment):
        assert "no CLIP with a projection" in measured.not_available


@torch.inference_mode()
def test_a_damaged_model_gives_a_reason_and_no_nan(measure, clip_vision, frames):
    vision = clip_vision()
    vision.model.visual_projection.weight.data.fill_(torch.nan)
    assert "NaN or infinity" in measure(frames, clip_vision=vision).motion_smoothness.not_available


@pytest.fixture
def metrics_node(pack, monkeypatch):
    """`metrics_node(prompt)`: the node as node 7 of this prompt."""

    def of(prompt: dict | None = None):
        node = pack.submodule("nodes.metrics").AnimateDiffMetrics
        monkeypatch.setattr(node, "hidden", SimpleNamespace(prompt=prompt, unique_id="7"), raising=False)
        return node

    return of


def test_outputs_without_a_number_stop_what_is_connected_to_them(metrics_node, frames):
    from comfy_execution.graph_utils import ExecutionBlocker

    *numbers, report, plot = metrics_node().execute(images=frames).result
    assert [isinstance(number, ExecutionBlocker) for number in numbers] == [True] * 3 + [False] * 3 + [True]
    why = "motion smoothness is not available: connect clip_vision. What is connected to it does not run."
    assert numbers[0].message == why
    assert report.startswith("20 frames of 48 x 40 pixels")
    assert plot.ndim == 4


def test_the_node_says_which_numbers_that_somebody_wants_are_not_available(metrics_node, frames, on_the_node, caplog):
    prompt = {
        "7": {"inputs": {"images": ["1", 0]}},
        "8": {"inputs": {"source": ["7", 6]}},
        "9": {"inputs": {"a": ["7", 3]}},
    }
    told = "seam ratio is not available: enter context_length and context_overlap of the windows used. What is connected to"
    with on_the_node("7") as shown:
        output = metrics_node(prompt).execute(images=frames)
        assert [text.startswith(told) and "motion smoothness" not in text for _, text in shown] == [True]
        assert output.ui["text"][0].startswith(told)
        assert told in caplog.text
        metrics_node(prompt).execute(images=frames, context_length=8)
        assert shown[1:] == [("7", " ")]
