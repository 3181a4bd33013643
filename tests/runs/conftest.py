"""Two processes for the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.runs.pair import Pair, two_processes


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with two_processes() as pair:
        yield pair
