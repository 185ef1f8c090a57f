"""The nodes: interface, validation, one call into the layers below."""

from . import extras, legacy, lora, metrics, scheduling, training
from .motion_models import animatelcm, apply, camera, settings, strengths
from .sampling import context, evolved, guidance, sample_settings, sigma_schedules, visualize

FAMILIES = (
    apply,
    evolved,
    context,
    visualize,
    settings,
    strengths,
    sample_settings,
    guidance,
    sigma_schedules,
    lora,
    scheduling,
    animatelcm,
    camera,
    extras,
    metrics,
    training,
    legacy,
)
NODES = [node for family in FAMILIES for node in family.NODES]
