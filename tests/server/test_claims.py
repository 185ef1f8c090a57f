"""The claims of the paper on the toy world's shipped weights, in their quick form: fewer clips."""

import sys

import pytest
from animatediff_dev_hosts import ROOT


@pytest.fixture
def claims():
    sys.path.insert(0, str(ROOT))
    import toyworld.claims

    yield toyworld.claims
    sys.path.remove(str(ROOT))


def test_no_claim_is_missed(claims, new_server, host, toyworld_models):
    with new_server(host, models=[toyworld_models]) as server:
        found = claims.run(server, quick=True)
    print(claims.table(found))
    assert [claim.measure for claim in found if claim.verdict == "MISSED"] == []
