"""Advanced-ControlNet's own ContextRef: where its objects are in a run, they do the work, and are told what each window does.

The names are those of the contract between the two packs (docs/behaviour.md, "Other packs").
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...host import shared_dict
from ..feature import Call, Denoise, Predictions
from ..windows.schedules import Window
from .extra import InCall
from .modes import OFF

PACK = "ACN"
CONTROLS = "contextref_control_list_all"
STATE = "contextref_machine_state"
CLEAN_UP = "contextref_clean_func"
# Up to this version its objects are told the noise level only.
TOLD_SIGMA_ONLY = 10000

States = Callable[[Sequence[Window]], list[str]]


def controls_of(call: Call) -> Sequence[Any]:
    """The objects that Advanced-ControlNet has put into a run; none without it."""
    return call.model_options["transformer_options"].get(CONTROLS) or ()


class ControlsInCall(InCall):
    """Their objects in one denoiser call. ``states``: of the node's mode, unless theirs takes its place."""

    def __init__(self, controls: Sequence[Any], call: Call, states: States, windows: Sequence[Window], active: bool):
        self.controls = controls
        self.whole = call
        self.active = active and self._prepared()
        if self.active:
            own = controls[-1].get_contextref_mode_replace()
            self.states = states(windows) if own is None else own.states(windows)
        else:
            self.states = [OFF] * len(windows)

    def _prepared(self) -> bool:
        options = self.whole.model_options["transformer_options"]
        sigma_only = shared_dict.entries_of(PACK).get("version", 0) <= TOLD_SIGMA_ONLY
        for control in self.controls:
            control.prepare_current_timestep(self.whole.timestep, *(() if sigma_only else (options,)))
        return all(control.should_run() for control in self.controls)

    def around_window(self, index: int, call: Call, then: Denoise) -> Predictions:
        for control in self.controls:
            control.contextref_cond_idx = 0
        # they know the same prompt again in another window by its uuid
        conds = [
            None if cond is None else [{**entry, "uuid": one["uuid"]} for entry, one in zip(cond, whole, strict=True)]
            for cond, whole in zip(call.conds, self.whole.conds, strict=True)
        ]
        return then(replace(call, conds=conds).with_options(**{STATE: self.states[index]}))

    def end(self) -> None:
        clean_up = self.whole.model_options["transformer_options"].get(CLEAN_UP)
        if self.active and clean_up is not None:
            clean_up()
