"""Motion model files -> models: naming what a wrong file is, one set of tensor names, the specification, the network."""

import logging
import os

import torch

from ...host.patcher import make_patcher, weight_dtype, with_parts
from ..adapters.image_inputs import KINDS, load_image_input
from ..layouts import LAYOUTS, PREFIX, Tensors, our_names, recognise
from ..network.temporal import MotionModel
from ..spec import MotionModelSpec
from .adjust import Adjustments
from .beside import heads_in_config
from .checking import MODULE_KEY, check_tensors, specification
from .errors import MotionModelFileError
from .numbers import refuse_impossible_numbers
from .quantised import unquantised
from .reading import read_tensors
from .saving import HEADS_METADATA, LAYOUT_METADATA
from .wrong_files import what_is_it

# Layouts that files in diffusers' names are taken for, whatever they were before.
SILENT = ("AnimateDiff", "AnimateLCM")


def load_motion_model(path: str, adjustments: Adjustments | None = None, disable_dynamic: bool = False):
    """Load a motion model file as a model patcher of the host. ``patcher.model`` is a MotionModel with its spec.

    Of a layout that takes pictures, the image input comes with it (``host.patcher.parts``). ``adjustments`` are made to its
    tensors before. Raises what ``read_motion_model`` raises.
    """
    spec, tensors = read_motion_model(path)
    patcher = built(spec, tensors, adjustments, (load_motion_model, (path, adjustments)), disable_dynamic)
    if spec.layout not in KINDS:
        return patcher
    return with_parts(patcher, {KINDS[spec.layout]: load_image_input(path, spec.layout)})


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
    model = _network(spec, as_loaded(tensors))
    logging.info("[AnimateDiff] Loaded %s", spec)
    return make_patcher(model, reload, disable_dynamic)


def new_motion_model(spec: MotionModelSpec, tensors: Tensors, disable_dynamic: bool = False):
    """A motion model that comes from no file, as the host samples with it.

    ``tensors`` are all of the state dict; they are kept in the dtype of the weights, for the copies that the host makes.
    """
    tensors = as_loaded(tensors)
    return make_patcher(_network(spec, tensors), (new_motion_model, (spec, tensors)), disable_dynamic)


def as_loaded(tensors: Tensors) -> Tensors:
    """In the dtypes that they have in the network: position tables float32, the rest as the host has its UNets.

    Cast here, not by the layers: some of the host's layers adopt the dtype of what they are given.
    """
    dtype = weight_dtype()
    return {key: value.to(torch.float32 if key.endswith(".pe") else dtype) for key, value in tensors.items()}


def _network(spec: MotionModelSpec, tensors: Tensors) -> MotionModel:
    model = MotionModel(spec, weight_dtype())
    model.load_state_dict(tensors, strict=False)  # a layout without tables keeps the generated ones
    return model.eval().requires_grad_(False)


def interpret(name: str, tensors: Tensors, metadata: dict[str, str]) -> tuple[MotionModelSpec, Tensors]:
    """Recognise the layout of a file's tensors; return the specification and the tensors under our names."""
    tensors = {PREFIX.sub("", key): value for key, value in tensors.items()}
    other = what_is_it(tensors)
    if other is not None:
        raise MotionModelFileError(f"'{name}' is no motion model. {other}")
    # what the tensors tell goes first where they tell all: an image input must not be overlooked
    layout = recognise(name, tensors)
    if layout.name in SILENT:
        layout = LAYOUTS.get(metadata.get(LAYOUT_METADATA, ""), layout)
    tensors = {key: value for key, value in our_names(tensors).items() if MODULE_KEY.match(key)}
    tensors = unquantised(name, tensors)
    return specification(name, layout, tensors, metadata), tensors
