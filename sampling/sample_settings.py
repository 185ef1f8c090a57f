"""SAMPLE_SETTINGS: how a run is sampled, beyond what the sampler node says."""

from dataclasses import dataclass, field

from .ancestral import AncestralOptions
from .guidance import CustomCfg
from .iterations import Iterations
from .noise import NoiseSettings
from .sigma_schedules import SigmaSchedule


@dataclass(frozen=True, eq=False)
class SampleSettings:
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    iterations: Iterations = field(default_factory=Iterations)
    custom_cfg: CustomCfg = ()
    sigma_schedule: SigmaSchedule | None = None
    ancestral: AncestralOptions | None = None
