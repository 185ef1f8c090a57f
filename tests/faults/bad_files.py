"""Files that are not what their folder says: damaged, cut off, of another kind, with weights that cannot be right."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import safetensors.torch
import torch
from animatediff_faults_bad_inputs import Bad
from animatediff_faults_bad_texts import NO_POSES
from animatediff_faults_parts import whole
from animatediff_faults_stand_ins import LAYOUT, adapter_tensors, models_folder, motion_lora_tensors, seeded
from animatediff_tests_tiny import SD15, motion_model_tensors

Tensors = dict[str, torch.Tensor]
SAFETENSORS, CKPT = ".safetensors", ".ckpt"


@dataclass(frozen=True)
class BadFile:
    """``content(good)``: bytes, or tensors and metadata, made of the tensors of a good file."""

    name: str
    content: Callable[[Tensors], bytes | Tensors | tuple[Tensors, dict]]
    words: tuple[str, ...] = ()
    extension: str = SAFETENSORS
    bounded: bool = False


# Damaged: for every loader.


def saved(tensors: Tensors, metadata: dict | None = None) -> bytes:
    return safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}, metadata)


def pickled(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def with_data(data: bytes) -> bytes:
    """A file of torch.save whose pickle is ``data``."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pickled({"a": 1}))) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, data if entry.endswith("data.pkl") else old.read(entry))
    return file.getvalue()


class Evil:
    def __reduce__(self):
        return os.system, ("echo this must not run",)


def sharing() -> dict:
    """A tree of 2 ** 60 leaves in 60 dictionaries."""
    tree: dict = {"leaf": torch.zeros(1)}
    for _ in range(60):
        tree = {"a": tree, "b": tree}
    return tree


def nested(depth: int) -> bytes:
    """A dictionary in a dictionary in …, as a pickle."""
    return b"\x80\x02" + b"}U\x01a" * depth + b"}" + b"s" * depth + b"."


def of_many_tensors(count: int) -> bytes:
    entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = ("{" + ",".join(f'"tensor.{i}":{entry}' for i in range(count)) + "}").encode()
    return struct.pack("<Q", len(header)) + header


def with_header(header: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header


DAMAGED = [
    BadFile("empty", lambda good: b"", ("0 bytes",)),
    BadFile("empty checkpoint", lambda good: b"", ("0 bytes",), CKPT),
    BadFile("web page", lambda good: b"<!DOCTYPE html><html><body>404</body></html>" * 40),
    BadFile("web page", lambda good: b"<!DOCTYPE html><html><body>404</body></html>" * 40, extension=CKPT),
    BadFile("pointer of git", lambda good: b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n"),
    BadFile("cut off", lambda good: saved(good)[:-4000]),
    BadFile("cut off in its header", lambda good: saved(good)[:500]),
    BadFile("cut off", lambda good: pickled(good)[:-4000], extension=CKPT),
    BadFile("header that is no JSON", lambda good: with_header(b"{not a header}")),
    BadFile("header longer than the file", lambda good: with_header(b"{}", 1 << 40)),
    BadFile("header with impossible offsets", lambda good: with_header(
        json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 99]}}).encode())),
    BadFile("no tensors", lambda good: saved({})),
    BadFile("no tensors", lambda good: pickled({}), extension=CKPT),
    BadFile("a list", lambda good: pickled([1, 2, 3]), extension=CKPT),
    BadFile("a single tensor", lambda good: pickled(torch.zeros(4)), extension=CKPT),
    BadFile("numbers", lambda good: pickled({"a": 1, "b": 2.0}), extension=CKPT),
    BadFile("program", lambda good: with_data(pickle.dumps(Evil())), extension=CKPT),
    BadFile("program without archive", lambda good: pickle.dumps({"state_dict": Evil()}), extension=CKPT),
    BadFile("archive of pictures", lambda good: zipped({"picture.png": b"\x89PNG"}), extension=CKPT),
    BadFile("shared dictionaries", lambda good: pickled(sharing()), extension=CKPT),
    BadFile("deep nesting", lambda good: with_data(nested(100_000)), extension=CKPT),
    BadFile("600,000 tensors", lambda good: of_many_tensors(600_000)),
]  # fmt: skip


def zipped(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def named(*names: str) -> Callable:
    return lambda good: {name: torch.zeros(4, 4) for name in names}


# Whole, but of another kind: the word that its kind is told by.
OTHERS = {
    "checkpoint": (named("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.a"), "checkpoint"),
    "UNet": (named("input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight"), "UNet"),
    "VAE": (named("encoder.conv_in.weight", "decoder.conv_in.weight"), "VAE"),
    "text encoder": (named("text_model.encoder.layers.0.mlp.fc1.weight"), "text"),
    "embedding": (named("emb_params"), "embedding"),
    "upscaler": (named("body.0.rdb1.conv1.weight", "conv_first.weight"), "upscale"),
    "IPAdapter": (named("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "IPAdapter"),
    "ControlNet": (named("control_model.input_hint_block.0.weight"), "ControlNet"),
    "SVD": (named("model.diffusion_model.input_blocks.1.1.time_stack.0.norm.weight"), "video"),
    "unknown": (named("something.weight", "else.weight"), "unknown"),
}


def changed(ending: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable:
    """Of a good file, the first tensor whose name ends so; None takes it out."""

    def content(good: Tensors) -> Tensors:
        name = next(name for name in good if name.endswith(ending))
        value = change(good[name])
        return {key: value if key == name else other for key, other in good.items() if key != name or value is not None}

    return content


def without(part: str) -> Callable:
    return lambda good: {name: value for name, value in good.items() if part not in name}


def filled(value: float) -> Callable:
    return lambda tensor: torch.full_like(tensor, value)


def cast(dtype: torch.dtype) -> Callable:
    return lambda good: {name: value.to(dtype) for name, value in good.items()}


NO_WEIGHTS = {"bytes": torch.uint8, "short numbers": torch.int8, "long numbers": torch.int64, "yes or no": torch.bool}
TO_Q = "attention_blocks.0.to_q.weight"
MOTION_MODELS = [
    *DAMAGED,
    *(BadFile(name, content, (word,)) for name, (content, word) in OTHERS.items()),
    BadFile("ordinary LoRA", lambda good: adapter_tensors(), ("LoRA", "models/loras")),
    BadFile("MotionLoRA", motion_lora_tensors, ("MotionLoRA", "animatediff_motion_lora")),
    BadFile("no norm", changed("temporal_transformer.norm.weight", lambda _: None), ("norm.weight",)),
    BadFile("no query", changed(TO_Q, lambda _: None), ("to_q",)),
    BadFile("no level", without("down_blocks.0."), ("down_blocks.0",)),
    BadFile("no module", without("up_blocks.0.motion_modules.0."), ("up_blocks.0.motion_modules.0",)),
    BadFile("unknown tensor", lambda good: good | {
        "down_blocks.0.motion_modules.0.temporal_transformer.gate.weight": torch.zeros(4)}, ("gate",)),
    BadFile("wrong shape", changed(TO_Q, lambda value: value[:-1]), ("to_q",)),
    BadFile("transposed", changed("ff.net.0.proj.weight", torch.t), ("ff.net.0.proj",)),
    BadFile("odd channels", lambda good: {name: value[:31] for name, value in good.items()}),
    BadFile("two-dimensional positions", changed("pos_encoder.pe", lambda value: value[0]), ("pos_encoder",)),
    BadFile("no positions left", changed("pos_encoder.pe", lambda value: value[:, :0]), ("position",)),
    BadFile("NaN", changed(TO_Q, filled(float("nan"))), ("to_q", "NaN")),
    BadFile("infinity", changed("ff_norm.bias", filled(float("inf"))), ("ff_norm.bias",)),
    BadFile("NaN in positions", changed("pos_encoder.pe", filled(float("nan"))), ("pos_encoder.pe",)),
    *(BadFile(name, cast(dtype), ("weight",)) for name, dtype in NO_WEIGHTS.items()),
    BadFile("complex", lambda good: pickled(cast(torch.complex64)(good)), ("weight",), CKPT),
    BadFile("heads of another width", lambda good: (good, {"animatediff.heads": "7"}), ("heads",)),
    BadFile("heads that are no number", lambda good: (good, {"animatediff.heads": "eight"}), ("heads",)),
    BadFile("unknown version", lambda good: (good, {"animatediff.version": "v9"}), ("version",)),
    BadFile("quantised", changed(TO_Q, lambda value: value.to(torch.uint8)), ("to_q",)),
    BadFile("model-00001-of-00009", without("up_blocks."), ("9",)),
    BadFile("for SD1.5's blocks", lambda good: MADE["SD1.5's blocks"], ("UNet",)),
]  # fmt: skip
MADE: dict[str, Tensors] = {}  # what needs the pack to be made

DOWN, UP = "to_q_lora.down.weight", "to_q_lora.up.weight"


def with_suffix(suffix: str) -> Callable:
    """Another method's tensors beside those of a LoRA."""
    return lambda good: (
        good
        | {
            f"{name.removesuffix('_lora.down.weight')}.{suffix}": torch.ones(value.shape[1])
            for name, value in good.items()
            if name.endswith("_lora.down.weight")
        }
    )


def of_method(*suffixes: str) -> Callable:
    """Another method's tensors for the same layers, in place of a LoRA's."""
    return lambda good: {
        f"{name.removesuffix('_lora.down.weight')}.{suffix}": torch.ones(2, value.shape[1])
        for name, value in good.items()
        if name.endswith("_lora.down.weight")
        for suffix in suffixes
    }


MOTION_LORAS = [
    *DAMAGED,
    *(BadFile(name, content, (word,)) for name, (content, word) in OTHERS.items()),
    BadFile("ordinary LoRA", lambda good: adapter_tensors(), ("LoRA", "models/loras")),
    BadFile("motion model", lambda good: MADE["motion model"], ("motion model", "animatediff_models")),
    BadFile("half of a pair", changed(UP, lambda _: None), ("to_q",)),
    BadFile("three dimensions", changed(DOWN, lambda value: value[None]), ("to_q",)),
    BadFile("ranks that do not meet", changed(DOWN, lambda value: value[:1]), ("to_q",)),
    BadFile("NaN", changed(UP, filled(float("nan"))), ("to_q", "NaN")),
    BadFile("infinity", changed(DOWN, filled(float("inf"))), ("to_q",)),
    *(BadFile(name, cast(dtype), ("to_",)) for name, dtype in NO_WEIGHTS.items()),
    BadFile("alpha of three", lambda good: with_alpha(good, torch.ones(3)), ("alpha",)),
    BadFile("alpha NaN", lambda good: with_alpha(good, torch.tensor(float("nan"))), ("alpha",)),
    BadFile("for another motion model", lambda good: motion_lora_tensors(MADE["SD1.5's blocks"]), ("motion model",)),
    BadFile("layers of no motion model", lambda good: {
        re.sub(r"motion_modules\.\d", "motion_modules.7", name): value for name, value in good.items()
        if ".motion_modules.0." in name}, ("motion model",)),
    BadFile("IA3", of_method("ia3_l.weight"), ("IA3",), bounded=True),
    BadFile("LoHa", of_method("hada_w1_a", "hada_w1_b", "hada_w2_a"), ("LoHa",), bounded=True),
    BadFile("OFT", of_method("oft_blocks"), ("OFT",), bounded=True),
    BadFile("GLoRA", of_method("a1.weight", "a2.weight", "b1.weight"), ("GLoRA",), bounded=True),
]  # fmt: skip


def with_alpha(good: Tensors, alpha: torch.Tensor) -> Tensors:
    return good | {name.replace("_lora.down.weight", ".alpha"): alpha.clone() for name in good if name.endswith(DOWN)}


ADAPTER_UP = "lora_up.weight"
DOMAIN_ADAPTERS = [
    *DAMAGED,
    *(BadFile(name, content, (word,)) for name, (content, word) in OTHERS.items()),
    BadFile("MotionLoRA", lambda good: motion_lora_tensors(MADE["motion model"]), ("MotionLoRA", "Load AnimateDiff LoRA")),
    BadFile("motion model", lambda good: MADE["motion model"], ("motion model", "AnimateDiff: Load Model")),
    BadFile("NaN", changed(ADAPTER_UP, filled(float("nan"))), ("lora_up",)),
    BadFile("integers", cast(torch.int16), ("lora_",)),
    BadFile("wrong shape", changed(ADAPTER_UP, lambda value: seeded(value.shape[0] + 3, value.shape[1])), ("input_blocks",)),
    BadFile("for another checkpoint", lambda good: {
        name.replace("input_blocks", "input_blocks.9"): value for name, value in good.items()
        if "input_blocks" in name}, ("checkpoint",)),
    BadFile("text encoder only", lambda good: {
        f"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_{half}.weight": seeded(2, 2) for half in ("up", "down")}),
]  # fmt: skip
# The loader: node, input, folder, the good file whose tensors are spoilt, the bad files.
LOADERS = {
    "motion model files": ("ADE_LoadAnimateDiffModel", "model_name", "animatediff_models", "v2", MOTION_MODELS),
    "MotionLoRA files": ("ADE_AnimateDiffLoRALoader", "name", "animatediff_motion_lora", "zoom", MOTION_LORAS),
    "domain adapter files": ("AnimateDiffLoadDomainAdapter", "lora_name", "loras", "adapter", DOMAIN_ADAPTERS),
}
# Other loaders read the same way; a few files each show that they tell the same.
A_FEW = [DAMAGED[0], DAMAGED[2], DAMAGED[5], BadFile("checkpoint", OTHERS["checkpoint"][0], ("checkpoint",))]
MORE_LOADERS = {
    "ADE_LoadAnimateLCMI2VModel": ("model_name", [*A_FEW, BadFile("motion model", lambda good: good, ("encoder",))]),
    "ADE_AnimateDiffLoaderGen1": ("model_name", A_FEW),
    "ADE_AnimateDiffLoaderWithContext": ("model_name", A_FEW),
    "AnimateDiffLoaderV1": ("model_name", A_FEW),
}


def prepare(pack) -> None:
    """Make what needs the pack, once."""
    MADE["motion model"] = motion_model_tensors(pack, LAYOUT, "v2")
    MADE["SD1.5's blocks"] = motion_model_tensors(pack, SD15, "other")


def case(group: str, node_id: str, widget: str, folder: str, good: str, file: BadFile) -> Bad:
    name = f"{file.name}{file.extension}"

    def build():
        path = os.path.join(models_folder(folder), name)
        content = file.content(safetensors.torch.load_file(os.path.join(models_folder(folder), f"{good}.safetensors")))
        if not isinstance(content, bytes):
            content = saved(*content) if isinstance(content, tuple) else saved(content)
        with open(path, "wb") as written:
            written.write(content)
        BUILT.append(path)
        return whole(node_id, salt=f"{group}: {name}", **{widget: name})

    return Bad(f"{node_id}: {name}", build, (file.name, *file.words), bounded=file.bounded)


BUILT: list[str] = []  # files to be removed when the case is over


def pose_file(name: str, content: bytes, word: str) -> Bad:
    def build():
        import folder_paths

        path = os.path.join(folder_paths.get_input_directory(), f"{name}.txt")
        with open(path, "wb") as written:
            written.write(content)
        BUILT.append(path)
        return whole("ADE_LoadCameraPoses", pose_filename=f"{name}.txt")

    return Bad(f"ADE_LoadCameraPoses: {name}.txt", build, (name, word))


ALL: dict[str, list[Bad]] = {
    **{
        group: [case(group, node, widget, folder, good, file) for file in files]
        for group, (node, widget, folder, good, files) in LOADERS.items()
    },
    "other loaders": [
        case(node, node, widget, "animatediff_models", "v2", file)
        for node, (widget, files) in MORE_LOADERS.items()
        for file in files
    ],
    "pose files": [pose_file(name, content, word) for name, (content, word) in NO_POSES.items()],
}
