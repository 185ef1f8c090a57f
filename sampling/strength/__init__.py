"""Strengths: numbers, lists per frame and masks over the picture."""
