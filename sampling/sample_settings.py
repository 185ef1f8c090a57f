"""SAMPLE_SETTINGS: how a run is sampled, beyond what the sampler node says."""

from dataclasses import dataclass, field

from .guidance.custom_cfg import CustomCfg
from .image_injection.picture import InjectedPicture
from .noise.ancestral import AncestralOptions
from .noise.initial import NoiseSettings
from .noise.iterations import Iterations
from .schedules.sigma_schedules import SigmaSchedule


@dataclass(frozen=True, eq=False)
class SampleSettings:
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    iterations: Iterations = field(default_factory=Iterations)
    custom_cfg: CustomCfg = ()
    sigma_schedule: SigmaSchedule | None = None
    ancestral: AncestralOptions | None = None
    pictures: tuple[InjectedPicture, ...] = ()
