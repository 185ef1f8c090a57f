"""The nodes: interface, validation, one call into the layers below."""

from . import motion_models, sampling

NODES = [*motion_models.NODES, *sampling.NODES]
