"""The claims of the paper on the shipped weights, in their quick form: few clips, the same limits."""

import pytest


@pytest.fixture(scope="module")
def claims(toyworld):
    return toyworld("claims")


@pytest.fixture(scope="module")
def sampler(claims, new_server, host, toyworld_models):
    with new_server(host, models=[toyworld_models]) as server:
        yield claims.Sampler(server)


@pytest.fixture(scope="module")
def live_sampler(toyworld, pack, toyworld_models, tmp_path_factory):
    """Ten times as fast, for the parts that need no server."""
    models, videos = map(tmp_path_factory.mktemp, ("models", "videos"))
    return toyworld("live_clips").LiveSampler(toyworld("recipe").Bench(pack), models, toyworld_models, videos)


def check(claims, sampler, name):
    (found,) = (part(sampler, quick) for part, _, quick in claims.PARTS if part.__name__ == name)
    print(claims.table(found))
    assert [claim.measure for claim in found if claim.verdict == "MISSED"] == []


@pytest.mark.parametrize("name", ["adapter_claims", "personalised_claims"])
def test_no_claim_misses_its_must(claims, sampler, name):
    check(claims, sampler, name)


@pytest.mark.parametrize("name", ["base_claims", "lora_claims", "two_loras_claims"])
def test_no_claim_misses_its_must_on_the_live_channels(claims, live_sampler, name):
    check(claims, live_sampler, name)
