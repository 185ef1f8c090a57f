"""Several motion models made one: a weighted mean of two, or the difference of two added to a third.

The mean of fine-tuned weights: Wortsman et al., "Model soups" (arXiv 2203.05482), section 2. Differences: Ilharco et al.,
"Editing models with task arithmetic" (arXiv 2212.04089), section 2. All is computed on the CPU in float32, a tensor at a
time; the models that go in stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..host.patcher import parts, weights_as_sampled, with_parts
from ..host.progress import in_steps
from .files.checking import MODULE_KEY
from .files.motion_model import new_motion_model
from .files.numbers import is_finite
from .files.weights import dtype_of
from .layouts import Tensors
from .network.injection import MotionModelMismatch
from .spec import MotionModelSpec

# Part ("down", "mid", "up"), level and motion module; None stands for all of them.
Place = tuple[str, int | None, int | None]


@dataclass(frozen=True)
class BlockWeights:
    """How much of the second model each motion module gets: what ``places`` say of it, else ``overall``.

    Of several places that hold a module the narrowest counts.
    """

    overall: float
    places: tuple[tuple[Place, float], ...] = ()

    def of(self, part: str, level: int, module: int) -> float:
        chain = ((part, level, module), (part, level, None), (part, None, None))
        weights = dict(self.places)
        return next((weights[place] for place in chain if place in weights), self.overall)

    def of_tensor(self, name: str) -> float:
        return self.of(*place_of(name))

    def check(self, spec: MotionModelSpec) -> None:
        """Raise MotionModelMismatch for a place that a motion model of ``spec`` does not have."""
        parts = {"down": spec.down, "mid": (spec.mid,) if spec.mid else (), "up": spec.up}
        for (part, level, module), _ in self.places:
            levels = parts[part]
            modules = levels[level] if level is not None and level < len(levels) else ()
            if not levels or (level is not None and not modules) or (module is not None and module >= len(modules)):
                written = (
                    part + (f"_{level}" if level is not None else "") + (f"__{module}" if module is not None else "")
                )
                has = [f"{name}_0 to {name}_{len(of) - 1}" for name, of in parts.items() if name != "mid" and of]
                raise MotionModelMismatch(
                    f"blocks names {written}, which the motion model '{spec.name}' does not have. It has "
                    f"{', '.join([*has, *(['mid'] if spec.mid else [])])}; modules of a block are counted from 0 "
                    "(down_1__0). Take it out of blocks."
                )


def place_of(name: str) -> tuple[str, int, int]:
    """Part, level and motion module of a tensor of a motion model."""
    match = MODULE_KEY.match(name)
    assert match is not None  # a motion model holds nothing else
    part, level, mid, module = match.groups()
    return ("mid" if mid else part), int(level or 0), int(module)


def check_alike(first: MotionModelSpec, second: MotionModelSpec) -> None:
    """Raise MotionModelMismatch unless the tensors of both motion models mean the same, one by one."""
    for spec in (first, second):
        if not spec.attention_blocks:
            raise MotionModelMismatch(
                f"'{spec.name}' has no motion modules: it is an image encoder alone. Connect a motion model."
            )
    for value, words, advice in FACTS:
        if value(first) != value(second):
            raise MotionModelMismatch(
                f"The motion models '{first.name}' and '{second.name}' do not fit each other: the first {words(first)}, the "
                f"second {words(second)}. {advice(first, second)}"
            )


def _checkpoints(spec: MotionModelSpec) -> str:
    of_family = f"{spec.family} checkpoints"
    return of_family if spec.family != "custom" else f"UNets of {'/'.join(map(str, spec.levels))} channels"


def _modules(spec: MotionModelSpec) -> str:
    """Such as "2+2+2+2 modules for the down blocks, 1 for the middle and 3+3+3+3 for the up blocks"."""
    down, up = ("+".join(str(len(level)) for level in levels) or "none" for levels in (spec.down, spec.up))
    return f"{down} modules for the down blocks, {len(spec.mid) or 'none'} for the middle and {up} for the up blocks"


def _cut(first: MotionModelSpec, second: MotionModelSpec) -> str:
    shorter, longer = sorted((first, second), key=lambda spec: spec.max_frames)
    frames = shorter.max_frames
    return (
        f"Load '{longer.name}' with the ad_settings of Adjust PE (Sweetspot), sweetspot and new_sweetspot {frames}, which "
        f"keeps the first {frames} positions."
    )


Fact = Callable[[MotionModelSpec], object]
Words = Callable[[MotionModelSpec], str]
Advice = Callable[[MotionModelSpec, MotionModelSpec], str]


def _same(advice: str) -> Advice:
    return lambda first, second: advice


# What has to be the same, in the order in which it is told: the value, how a model's is told, what to do.
FACTS: tuple[tuple[Fact, Words, Advice], ...] = (
    (
        lambda spec: spec.levels,
        lambda spec: f"is for {_checkpoints(spec)}",
        _same("Use two for one kind of checkpoint."),
    ),
    (lambda spec: spec.layout, lambda spec: f"is a {spec.layout} model", _same("Use two of one kind.")),
    (
        lambda spec: (spec.down, spec.mid, spec.up),
        lambda spec: f"has {_modules(spec)}",
        _same("Use two of one version: v2 has a module in the middle, v1 and v3 have none."),
    ),
    (
        lambda spec: (spec.attention_blocks, spec.heads),
        lambda spec: f"has {spec.attention_blocks} attention blocks with {spec.heads} heads in each module",
        _same("Use two of one network."),
    ),
    (lambda spec: spec.max_frames, lambda spec: f"has positions for {spec.max_frames} frames", _cut),
    (
        lambda spec: spec.joint_group_norm,
        lambda spec: f"is of version {spec.version}",
        _same("Use two of one version: with v1 the UNet normalises all frames of a clip together."),
    ),
)


def merged(first, second, weights: BlockWeights):
    """``(1 - w) first + w second``, ``w`` the weight of each motion module, as a new motion model (MOTION_MODEL_ADE).

    Raises MotionModelMismatch for models that do not fit each other, or places that they do not have.
    """
    check_alike(first.model.spec, second.model.spec)
    weights.check(first.model.spec)
    one, other = weights_as_sampled(first), weights_as_sampled(second)

    def mix(name: str) -> torch.Tensor:
        return torch.lerp(one(name), other(name), weights.of_tensor(name))

    return _made(f"{first.model.spec.name} + {second.model.spec.name}", first, mix)


def with_difference(base, plus, minus, strength: float):
    """``base + strength (plus - minus)`` as a new motion model. Raises MotionModelMismatch unless all three fit."""
    check_alike(base.model.spec, plus.model.spec)
    check_alike(base.model.spec, minus.model.spec)
    one, more, less = map(weights_as_sampled, (base, plus, minus))

    def add(name: str) -> torch.Tensor:
        return one(name).add_(more(name).sub_(less(name)), alpha=strength)

    names = (patcher.model.spec.name for patcher in (base, plus, minus))
    return _made("{} + ({} - {})".format(*names), base, add)


def with_patches_merged(patcher):
    """A new motion model whose weights are those that ``patcher`` samples with: its weight patches are part of them."""
    return _made(patcher.model.spec.name, patcher, weights_as_sampled(patcher))


def _made(name: str, like, tensor: Callable[[str], torch.Tensor]):
    """A motion model of the kind of ``like``, each tensor of it made by ``tensor``."""
    # cast one by one: all of them in float32 are 1.8 GB
    made: Tensors = {}
    for key in in_steps(list(like.model.state_dict())):
        made[key] = tensor(key).to(dtype_of(key))
        if not is_finite(made[key]):
            raise ValueError(
                f"The weights of '{name}' grow beyond what {str(made[key].dtype).removeprefix('torch.')} can hold ({key}). "
                "Lower the strength."
            )
    # an image encoder or camera control stays that of ``like``
    return with_parts(new_motion_model(replace(like.model.spec, name=name), made), parts(like))
