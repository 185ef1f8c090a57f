"""The host's own loader nodes, where ours add something to what they give."""

import copy

import nodes as host_nodes


def load_checkpoint(name: str) -> tuple:
    """MODEL, CLIP and VAE of a checkpoint, by its name in the models folder."""
    return host_nodes.CheckpointLoaderSimple().load_checkpoint(name)


def empty_latent(width: int, height: int, frames: int) -> dict:
    """LATENT of zeros; sizes in pixels."""
    return host_nodes.EmptyLatentImage().generate(width, height, frames)[0]


def with_latent_scale(model, scale_factor: float):
    """A clone of a MODEL that reckons with latents of another scale than its kind of checkpoint has."""
    model = model.clone()
    latent_format = copy.copy(model.get_model_object("latent_format"))
    latent_format.scale_factor = scale_factor
    model.add_object_patch("latent_format", latent_format)
    return model
