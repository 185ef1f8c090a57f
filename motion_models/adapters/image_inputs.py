"""Reading what the files of PIA and FancyVideo have for pictures: conv_in, of which the part beside the latents counts."""

import os

from torch import nn

from ...host.patcher import make_patcher
from ..files.errors import MotionModelFileError
from ..files.reading import read_tensors
from ..files.stored import values
from ..layouts import FANCY_VIDEO, IMAGE_INPUT_KEY, PIA, PREFIX, Tensors, recognise
from .fancy_video import FancyVideoInput
from .first_convolution import ImageInput
from .network import with_weights

KINDS = {PIA: "image input of PIA", FANCY_VIDEO: "image input of FancyVideo"}  # of part (host/patcher.py), by layout


def load_image_input(path: str, layout: str, disable_dynamic: bool = False, tensors: Tensors | None = None):
    """The part of a file for pictures: a patcher of an ImageInput. Raises MotionModelFileError if the file is not of ``layout``.

    ``tensors``: those of the file, where it has been read.
    """
    file_name = os.path.basename(path)
    if tensors is None:
        tensors, _ = read_tensors(path)
    found = recognise(
        os.path.splitext(file_name)[0], {PREFIX.sub("", key): value for key, value in tensors.items()}
    ).name
    if found != layout:
        raise MotionModelFileError(
            f"'{file_name}' is no {layout} file, but one of the layout {found}, which has nothing to take over for pictures. "
            "Choose another file, such as pia.ckpt."
        )
    network = _network(file_name, layout, tensors, disable_dynamic)
    return make_patcher(network, (load_image_input, (path, layout)), disable_dynamic)


def _network(name: str, layout: str, tensors: Tensors, disable_dynamic: bool) -> nn.Module:
    own = {match[1]: value for key, value in tensors.items() if (match := IMAGE_INPUT_KEY.match(key))}
    weight = own.get("conv_in.weight")
    if weight is None or weight.ndim != 4 or weight.shape[1] < 3 or weight.shape[1] % 2 == 0:
        shape = "is missing" if weight is None else f"has the shape {tuple(weight.shape)}"
        raise MotionModelFileError(
            f"'{name}' looks like {layout}, but its conv_in.weight {shape} in place of (320, 9, 3, 3): latents of 4 channels, "
            "those of a picture and a mask. The file is damaged or was converted wrongly: use another one."
        )
    latent_channels = weight.shape[1] // 2
    # the first channels, and the bias, are those of the checkpoint that the model was trained with
    own = {key: value for key, value in own.items() if not key.startswith("conv_in.")}
    own["conv.weight"] = values(weight)[:, latent_channels:]
    network, channels = FancyVideoInput if layout == FANCY_VIDEO else ImageInput, len(weight)
    return with_weights(
        name, f"a {layout} file", lambda dtype: network(latent_channels, channels, dtype), own, disable_dynamic
    )
