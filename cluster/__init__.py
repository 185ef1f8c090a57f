"""Batches of clips on a cluster: a workflow and a table, rendered by ComfyUI servers that Ray places. See docs/cluster.md."""
