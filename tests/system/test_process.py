"""Freed memory stays with the process: counted by the pages that the system had to give it.

Signals are tested where they arrive: in trainings and in the command that compares methods.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.batches import TrainingScans, read_steps, training_loader
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.sampler import SampleKey, StepSampler
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import RangesegError
from rangeseg.geometry.augmentation import AugmentationSettings

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another library hands out the memory here"
)

ROUNDS = 20


def pages_of_rounds() -> int:
    """Pages a round that the system gives for 16 arrays of 3 MB, freed together each time."""
    for number in range(2 * ROUNDS):
        if number == ROUNDS:  # the first rounds find their balance
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        arrays = [np.ones(3 << 20, dtype=np.uint8) for _ in range(16)]
        del arrays
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // ROUNDS


class Counting(TrainingScans):
    """Counts pages in the process that loads, and says how many as an error."""

    def __getitem__(self, key: SampleKey) -> RangesegError:
        return RangesegError(f"pages {pages_of_rounds()}")


def pages_of_a_loader() -> str:
    source = SemanticKitti(Path("none"))
    images = RangeImages(source.info, RangeImageSettings(height=8, width=64))
    scans = Counting(source, images, AugmentationSettings(), ["a"])
    loader = training_loader(scans, StepSampler(["a"], [], 1, 0, range(1)), 1, pin_memory=False)
    with pytest.raises(RangesegError, match="pages ") as found:
        list(read_steps(loader, scans.bad_scans))
    return str(found.value)


def in_a_new_process(lines: str) -> int:
    """The last number that it prints; in this one, other tests may have asked for it already."""
    words = [sys.executable, "-c", f"from tests.system.test_process import *\n{lines}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_a_command_keeps_freed_memory() -> None:
    assert in_a_new_process("print(pages_of_rounds())") > 5_000
    lines = """
import argparse
from rangeseg.commands.base import run_command
parser = argparse.ArgumentParser()
parser.set_defaults(run=lambda arguments: print(pages_of_rounds()) or 0)
run_command(parser, [])
"""
    assert in_a_new_process(lines) < 100


@pytest.mark.slow
def test_a_process_that_loads_scans_keeps_freed_memory() -> None:
    assert in_a_new_process("print(pages_of_a_loader())") < 100
