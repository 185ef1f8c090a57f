"""PER_BLOCK: scale and effect for single blocks of the UNet."""

from dataclasses import dataclass

from ...host.told import Told
from ...motion_models.spec import MotionModelSpec
from .multival import Multival


class PerBlockMismatch(Told, ValueError):
    """Per-block settings for another family of motion models."""


@dataclass(frozen=True, eq=False)
class Block:
    """AD_BLOCK: what a block's own strengths are multiplied by. ``scales``: one per attention block; None means 1."""

    effect: Multival | None = None
    scales: tuple[Multival | None, ...] = ()


@dataclass(frozen=True, eq=False)
class BlockAt:
    """A Block for the modules at ``part`` ("down", "mid", "up"); None for level or module means every one."""

    block: Block
    part: str
    level: int | None = None
    module: int | None = None

    def holds(self, part: str, level: int, module: int) -> bool:
        return part == self.part and self.level in (None, level) and self.module in (None, module)


@dataclass(frozen=True, eq=False)
class PerBlock:
    """``family`` None fits every motion model."""

    entries: tuple[BlockAt, ...] = ()
    family: str | None = None

    def check(self, spec: MotionModelSpec) -> None:
        if self.family is not None and spec.family != self.family:
            raise PerBlockMismatch(
                f"The per_block settings are for {self.family} motion models, but '{spec.name}' is for {spec.family}. "
                f"Use the per block nodes for {spec.family}, or AD Per Block, which fits all."
            )

    def modules(self, spec: MotionModelSpec) -> dict[str, Block]:
        """The settings of each module by its name. Of several entries for a module the first one that says so counts."""
        found = {}
        for name, place in module_places(spec):
            matching = [entry.block for entry in self.entries if entry.holds(*place)]
            effect = next((block.effect for block in matching if block.effect is not None), None)
            scales = next((block.scales for block in matching if block.scales), ())
            if effect is not None or scales:
                found[name] = Block(effect, scales)
        return found


def module_places(spec: MotionModelSpec) -> list[tuple[str, tuple[str, int, int]]]:
    """Name and place (part, level, module) of all motion modules, down and up blocks level by level."""
    places = []
    for part, levels in (("down", spec.down), ("mid", (spec.mid,)), ("up", spec.up)):
        for level, modules in enumerate(levels):
            block = "mid_block" if part == "mid" else f"{part}_blocks.{level}"
            places += [(f"{block}.motion_modules.{i}", (part, level, i)) for i in range(len(modules))]
    return places
