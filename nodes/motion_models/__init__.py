"""Nodes for motion models: loading, applying, strengths, adapters."""
