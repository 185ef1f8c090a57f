"""Adapters of motion models in a run: pictures to start from, cameras."""
