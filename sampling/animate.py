"""Turning a MODEL into one that samples with features."""

from collections.abc import Iterable
from typing import TypeVar

from comfy.patcher_extension import WrappersMP

from . import run
from .feature import Feature

WRAPPERS = {
    WrappersMP.OUTER_SAMPLE: run.outer_sample,
    WrappersMP.CALC_COND_BATCH: run.calc_cond_batch,
}
FeatureKind = TypeVar("FeatureKind", bound=Feature)


def with_features(model, features: Iterable[Feature]):
    """A clone of ``model`` (a host ModelPatcher) that samples with ``features``, outermost first, and with no others.

    Raises what their ``attach`` raises.
    """
    features = tuple(features)
    model = without_features(model)
    model.set_attachments(run.MODEL_KEY, features)
    for kind, wrapper in WRAPPERS.items():
        model.add_wrapper_with_key(kind, run.MODEL_KEY, wrapper)
    for feature in features:
        feature.attach(model)
    return model


def with_feature(model, feature: Feature):
    """A clone of ``model`` with ``feature`` around those that it has, in place of one of the same kind."""
    return with_features(
        model, (feature, *(other for other in run.features_of(model) if type(other) is not type(feature)))
    )


def with_inner_feature(model, feature: Feature):
    """A clone of ``model`` with ``feature`` inside of those that it has, in place of one of the same kind."""
    return with_features(
        model, (*(other for other in run.features_of(model) if type(other) is not type(feature)), feature)
    )


def without_features(model):
    """A clone of ``model`` without any feature. The noise schedule stays, as do all patches of others."""
    model = model.clone()
    for feature in run.features_of(model):
        feature.detach(model)
    for kind in WRAPPERS:
        model.remove_wrappers_with_key(kind, run.MODEL_KEY)
    model.remove_attachments(run.MODEL_KEY)
    return model


def feature_of(model, kind: type[FeatureKind]) -> FeatureKind | None:
    """The feature of that kind that the MODEL carries."""
    return next((feature for feature in run.features_of(model) if isinstance(feature, kind)), None)
