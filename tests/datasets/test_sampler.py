"""See also test_range_images.py, where the sampler's steps are read."""

from __future__ import annotations

from rangeseg.datasets.sampler import batch_seed


def test_every_batch_of_every_training_draws_its_own_numbers() -> None:
    seeds = [batch_seed(seed, batch) for seed in range(5) for batch in range(100)]
    assert len({seed % 2**32 for seed in seeds}) == len(seeds)  # a CPU's generator takes 32 bits
