"""The nodes: interface, validation, one call into the layers below."""

from . import context, lora, metrics, motion_models, sampling, settings, training

NODES = [*motion_models.NODES, *sampling.NODES, *context.NODES, *settings.NODES, *lora.NODES, *metrics.NODES, *training.NODES]
