"""Several GPUs, as the host's MultiGPU CFG Split puts them on a MODEL: each has a clone of it, prompts are shared out."""

from collections.abc import Iterable

from comfy.patcher_extension import CallbacksMP

# Releases before 0.24 do without.
MATCHED = getattr(CallbacksMP, "ON_MATCH_MULTIGPU_CLONES", None)


def keep_clones_in_step(model, key: str, of_models: Iterable[str]) -> None:
    """Let the additional models ``of_models`` of a MODEL's clones have the patches and the order of the MODEL's own.

    Before a run the host loads for a clone what it lacks. What it has from an earlier run it keeps as it was, with the
    LoRAs of that run. ``key`` names what is put on the MODEL.
    """
    of_models = tuple(of_models)

    def in_step(model, clone) -> None:
        there = {additional.clone_base_uuid: additional for additional in clone.get_additional_models()}
        for models in of_models:
            own = model.get_additional_models_with_key(models)
            clone.set_additional_models(models, [_as_on(there[one.clone_base_uuid], one) for one in own])

    if MATCHED is not None:
        model.add_callback_with_key(MATCHED, key, in_step)


def let_clones_be(model, key: str) -> None:
    """Take from a MODEL what ``keep_clones_in_step`` put on it."""
    if MATCHED is not None:
        model.remove_callbacks_with_key(MATCHED, key)


def copy_for_device(patcher, device):
    """An equal patcher for another GPU, with weights of its own. Raises RuntimeError where the host does not know how to load them."""
    return patcher.deepclone_multigpu(new_load_device=device)


def _as_on(there, model):
    """``model`` with the weights, and for the device, of its clone ``there``."""
    clone = model.clone(model_override=there.get_clone_model_override())
    clone.load_device, clone.hook_backup = there.load_device, there.hook_backup
    return clone
