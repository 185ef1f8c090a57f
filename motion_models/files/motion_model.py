"""Motion model files -> models: naming what a wrong file is, one set of tensor names, the specification, the network."""

import logging
import os

import torch

from ...host.patcher import make_patcher, weight_dtype
from ..layouts import PREFIX, Tensors, our_names, recognise
from ..network.temporal import MotionModel
from ..spec import MotionModelSpec
from .adjust import Adjustments
from .beside import heads_in_config
from .checking import MODULE_KEY, check_tensors, specification
from .errors import MotionModelFileError
from .numbers import refuse_impossible_numbers
from .quantised import unquantised
from .reading import read_tensors
from .saving import HEADS_METADATA
from .wrong_files import what_is_it


def load_motion_model(path: str, adjustments: Adjustments | None = None, disable_dynamic: bool = False):
    """Load a motion model file as a model patcher of the host. ``patcher.model`` is a MotionModel with its spec.

    ``adjustments`` are made to its tensors before. Raises what ``read_motion_model`` raises.
    """
    spec, tensors = read_motion_model(path)
    return built(spec, tensors, adjustments, (load_motion_model, (path, adjustments)), disable_dynamic)


def read_motion_model(path: str) -> tuple[MotionModelSpec, Tensors]:
    """The specification and the tensors of a motion model file.

    Raises MotionModelFileError for anything but a complete motion model, and what else read_tensors raises.
    """
    file_name = os.path.basename(path)
    tensors, metadata = read_tensors(path)
    heads = heads_in_config(path, tensors)
    if heads is not None:
        metadata = {HEADS_METADATA: str(heads), **metadata}
    spec, tensors = interpret(os.path.splitext(file_name)[0], tensors, metadata)
    check_tensors(spec, tensors)
    refuse_impossible_numbers(file_name, tensors)
    return spec, tensors


def built(spec: MotionModelSpec, tensors: Tensors, adjustments: Adjustments | None, reload, disable_dynamic: bool):
    """The patcher of a motion model, with the function that makes another one (``make_patcher``)."""
    if adjustments is not None:
        spec, tensors = adjustments.apply(spec, tensors)
    dtype = weight_dtype()
    model = MotionModel(spec, dtype)
    # Cast here, not by the layers: some of the host's layers adopt the dtype of what they are given.
    tensors = {key: value.to(torch.float32 if key.endswith(".pe") else dtype) for key, value in tensors.items()}
    model.load_state_dict(tensors, strict=False)  # a layout without tables keeps the generated ones
    model.eval().requires_grad_(False)
    logging.info("[AnimateDiff] Loaded %s", spec)
    return make_patcher(model, reload, disable_dynamic)


def interpret(name: str, tensors: Tensors, metadata: dict[str, str]) -> tuple[MotionModelSpec, Tensors]:
    """Recognise the layout of a file's tensors; return the specification and the tensors under our names."""
    tensors = {PREFIX.sub("", key): value for key, value in tensors.items()}
    other = what_is_it(tensors)
    if other is not None:
        raise MotionModelFileError(f"'{name}' is no motion model. {other}")
    layout = recognise(name, tensors)
    tensors = {key: value for key, value in our_names(tensors).items() if MODULE_KEY.match(key)}
    tensors = unquantised(name, tensors)
    return specification(name, layout, tensors, metadata), tensors
