"""Motion model files -> models: naming what a wrong file is, one set of tensor names, the specification, the network."""

import logging
import os
from collections.abc import Sequence

from torch import nn

from ...host.patcher import (
    is_dynamic,
    make_patcher,
    parts,
    plain_state_dict,
    reload_of,
    weight_dtype,
    weights_stay_mapped,
    with_parts,
)
from ..adapters.image_inputs import KINDS, load_image_input
from ..layouts import LAYOUTS, PREFIX, TABLE, Tensors, our_names, recognise
from ..network.positions import sinusoidal_table
from ..network.temporal import MotionModel
from ..spec import MotionModelSpec
from .adjust import Adjustments
from .beside import heads_in_config
from .checking import MODULE_KEY, check_tensors, specification, tensor_shapes
from .errors import MotionModelFileError
from .quantised import unquantised
from .reading import Contents, read_tensors
from .saving import HEADS_METADATA, LAYOUT_METADATA
from .weights import as_weights, dtype_of, network_of
from .wrong_files import what_is_it

# Layouts that files in diffusers' names are taken for, whatever they were before.
SILENT = ("AnimateDiff", "AnimateLCM")


def load_motion_model(
    path: str,
    adjustments: Adjustments | None = None,
    disable_dynamic: bool = False,
    contents: Contents | None = None,
):
    """Load a motion model file as a model patcher of the host. ``patcher.model`` is a MotionModel with its spec.

    Of a layout that takes pictures, the image input comes with it (``host.patcher.parts``). ``adjustments`` are made to its
    tensors before. ``contents``: what ``read_tensors`` gave of the file, which is emptied. Raises what ``read_motion_model``
    raises, and MotionModelFileError for weights that are no numbers.
    """
    contents = contents or read_tensors(path)
    spec, tensors = read_motion_model(path, contents)
    more = {}
    if spec.layout in KINDS:
        more[KINDS[spec.layout]] = load_image_input(path, spec.layout, tensors=contents[0])
    contents[0].clear()  # tensors go as they are taken over
    reload = (load_motion_model, (path, adjustments))
    patcher = built(spec, [(os.path.basename(path), tensors)], adjustments, reload, disable_dynamic)
    return with_parts(patcher, more) if more else patcher


def read_motion_model(path: str, contents: Contents | None = None) -> tuple[MotionModelSpec, Tensors]:
    """The specification and the tensors of a motion model file.

    Raises MotionModelFileError for anything but a complete motion model, and what else read_tensors raises.
    """
    tensors, metadata = contents or read_tensors(path)
    heads = heads_in_config(path, tensors)
    if heads is not None:
        metadata = {HEADS_METADATA: str(heads), **metadata}
    spec, tensors = interpret(os.path.splitext(os.path.basename(path))[0], tensors, metadata)
    check_tensors(spec, tensors)
    return spec, tensors


def built(
    spec: MotionModelSpec,
    sources: Sequence[tuple[str, Tensors]],
    adjustments: Adjustments | None,
    reload,
    disable_dynamic: bool,
):
    """The patcher of a motion model, with the function that makes another one (``make_patcher``).

    ``sources``: its tensors with the names of the files that they are of; they are emptied.
    """
    change = None
    if adjustments is not None:
        spec = adjustments.spec(spec, {name: value for _, tensors in sources for name, value in tensors.items()})
        change = adjustments.adjusted
    mapped = weights_stay_mapped(disable_dynamic)
    weights: Tensors = {}
    for file_name, tensors in sources:
        weights |= as_weights(file_name, tensors, change, mapped)
    logging.info("[AnimateDiff] Loaded %s", spec)
    return make_patcher(_network(spec, weights), reload, disable_dynamic)


def new_motion_model(spec: MotionModelSpec, tensors: Tensors, disable_dynamic: bool = False):
    """A motion model that comes from no file, as the host samples with it.

    ``tensors`` are all of the state dict; they become its weights, and are kept for the copies that the host makes.
    """
    weights = {name: value.to(dtype_of(name)) for name, value in tensors.items()}
    return make_patcher(_network(spec, weights), (_another, (spec, weights)), disable_dynamic)


def _another(spec: MotionModelSpec, weights: Tensors, disable_dynamic: bool = False):
    return new_motion_model(spec, {name: value.clone() for name, value in weights.items()}, disable_dynamic)


def fresh_copy(patcher):
    """An equal motion model, weight patches included, that shares no weights with ``patcher``; no file is read."""
    weights = {
        name: value.detach().to(patcher.offload_device, copy=True) for name, value in plain_state_dict(patcher).items()
    }
    copy = make_patcher(_network(patcher.model.spec, weights), reload_of(patcher), not is_dynamic(patcher))
    copy.patches = {name: list(patches) for name, patches in patcher.patches.items()}
    copy.patches_uuid = patcher.patches_uuid
    return with_parts(copy, parts(patcher))


def _network(spec: MotionModelSpec, weights: Tensors) -> nn.Module:
    generated = {
        name: sinusoidal_table(*shape[1:])  # of a layout without tables
        for name, shape in tensor_shapes(spec).items()
        if name.endswith(TABLE) and name not in weights
    }
    return network_of(lambda: MotionModel(spec, weight_dtype()), weights | generated)


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
