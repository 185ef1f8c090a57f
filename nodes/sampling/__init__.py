"""Nodes for sampling: windows, settings, guidance, schedules."""
