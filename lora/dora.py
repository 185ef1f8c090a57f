"""DoRA: a weight is changed in direction, and each of its rows given a learned length (Liu et al., arXiv 2402.09353)."""

from typing import Any

import comfy.weight_adapter
import torch


class DoraOfOutputs(comfy.weight_adapter.WeightAdapterBase):
    """A weight patch of the host: ``weights`` are the patch that changes the direction, and the length of each output.

    That is DoRA as peft and LyCORIS (its default) have it. The host's own divides by the lengths of the rows before the
    change; its DoRA of inputs is right.
    """

    name = "dora"
    weights: Any

    def __init__(self, loaded_keys: set[str], weights: tuple):
        self.loaded_keys = loaded_keys
        self.weights = weights

    def calculate_weight(
        self,
        weight,
        key,
        strength,
        strength_model,
        offset,
        function,
        intermediate_dtype=torch.float32,
        original_weight=None,
    ):
        """Add ``strength`` times the difference that it makes to ``weight (out, …)``, in place."""
        change, lengths = self.weights
        before = weight.to(intermediate_dtype)
        after = change.calculate_weight(before.clone(), key, 1.0, 1.0, None, lambda x: x, intermediate_dtype)
        rows = torch.nn.functional.normalize(after.flatten(1), dim=1)
        after = (rows * lengths.to(rows).flatten()[:, None]).reshape(weight.shape)
        weight += function((strength * (after - before)).type(weight.dtype))
        return weight
