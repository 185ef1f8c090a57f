"""The nodes: interface, validation, one call into the layers below."""

from . import (
    animatelcm,
    camera,
    context,
    extras,
    guidance,
    legacy,
    lora,
    metrics,
    motion_models,
    sample_settings,
    sampling,
    scheduling,
    settings,
    sigma_schedules,
    strengths,
    training,
    visualize,
)

FAMILIES = (
    motion_models,
    sampling,
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
