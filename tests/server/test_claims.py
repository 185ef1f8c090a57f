"""The claims of the paper on the shipped weights, in their quick form: few clips, the same limits."""

import pytest


@pytest.fixture(scope="module")
def claims(toyworld):
    return toyworld("claims")


@pytest.fixture(scope="module")
def sampler(claims, new_server, host, toyworld_models):
    with new_server(host, models=[toyworld_models]) as server:
        yield claims.Sampler(server)


@pytest.mark.parametrize(
    "name", ["base_claims", "adapter_claims", "personalised_claims", "lora_claims", "two_loras_claims"]
)
def test_no_claim_misses_its_must(claims, sampler, name):
    (found,) = (part(sampler, quick) for part, _, quick in claims.PARTS if part.__name__ == name)
    print(claims.table(found))
    assert [claim.measure for claim in found if claim.verdict == "MISSED"] == []
