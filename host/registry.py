"""The host's table of nodes."""

import logging

import nodes as host_nodes


def warn_about_other_packs(node_ids: list[str]) -> None:
    """Say once, in the log, if another pack has taken node ids of ours before."""
    served = host_nodes.NODE_CLASS_MAPPINGS
    taken = [served[node_id] for node_id in node_ids if node_id in served]
    owners = {getattr(node, "RELATIVE_PYTHON_MODULE", "another pack") for node in taken}
    if owners:
        logging.warning(
            "[AnimateDiff] %s already provides nodes with the ids of this pack; ours take their place. "
            "Keep one of the two packs and disable the other, then restart.",
            " and ".join(sorted(owners)),
        )
