"""Deprecated nodes, for workflows made with them: docs/deprecated.md says what took their place."""
