"""What a motion model is: everything that its file tells, and nothing of how it is used."""

from dataclasses import dataclass

from .layouts import FAMILIES, LAYOUTS, VERSIONS


@dataclass(frozen=True)
class MotionModelSpec:
    """The shape of a motion model, read off its tensors.

    ``down`` and ``up`` hold, per level and in the file's order, the channels of each motion module (``up`` begins at
    the deepest level); ``mid`` the channels of the modules in the middle. A part that the file lacks is empty.
    """

    name: str
    layout: str  # of layouts.LAYOUTS
    version: str  # of layouts.VERSIONS
    down: tuple[tuple[int, ...], ...]
    mid: tuple[int, ...]
    up: tuple[tuple[int, ...], ...]
    attention_blocks: int  # of each module; 0: it has no temporal transformers, and only adapters act through it
    heads: int
    max_frames: int
    parameters: int

    @property
    def levels(self) -> tuple[int, ...]:
        """Channels per level, shallowest first."""
        return tuple(level[0] for level in self.down or self.up[::-1])

    @property
    def family(self) -> str:
        """ "SD1.5", "SDXL", or "custom" for a UNet of other widths or depth."""
        return FAMILIES.get(self.levels, "custom")

    @property
    def joint_group_norm(self) -> bool:
        """Whether the UNet's group norms take their statistics over all frames of a clip together."""
        if not self.attention_blocks:
            return False
        by_layout = LAYOUTS[self.layout].joint_group_norm
        return VERSIONS[self.version].joint_group_norm if by_layout is None else by_layout

    @property
    def beta_schedule(self) -> str:
        """The noise schedule that the model was trained with (an option of the beta_schedule inputs)."""
        layout = LAYOUTS[self.layout]
        return layout.sdxl_beta_schedule if self.family == "SDXL" else layout.beta_schedule

    def __str__(self) -> str:
        family = self.family if self.family != "custom" else f"a UNet of {'/'.join(map(str, self.levels))} channels"
        mid = "mid block" if self.mid else "no mid block"
        return (
            f"{self.name}: {self.layout} {self.version} for {family}, {mid}, "
            f"up to {self.max_frames} frames, {self.parameters / 1e6:.1f} M parameters"
        )
