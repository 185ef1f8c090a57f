"""Measures of an animation, with and without models."""
