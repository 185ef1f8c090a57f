"""One sampler run: what lasts as long as it does, and how a MODEL comes to sample with motion models."""
