"""Select the scans of each training step as a function of seed and step alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from rangeseg.system.distributed import rank


@dataclass(frozen=True)
class SampleKey:
    """A scan, its augmentation seed and its crop: a pure function of the training's seed.

    Attributes:
        labelled: whether its labels are read.
        scan_id: id of the scan.
        seed: seed of its augmentation.
        window: start of its crop, the same for all scans of a step. Mixing swaps pixels between
            scans, which are the same rays only in the same window. A crop without a label is moved,
            see ``crops.labelled_column``.
    """

    labelled: bool
    scan_id: str
    seed: tuple[int, ...]
    window: float


def batch_seed(seed: int, batch: int) -> int:
    """The seed for the draws of a batch, numbered from 0, in this process."""
    # A CPU generator takes 32 bits: multiples of the golden ratio separate the processes.
    return seed * 1_000_003 + batch + rank() * 0x9E3779B1


# NumPy pads seeds with zeros, so (1, 2) and (1, 2, 0) are one stream: a tag separates them.
_SHUFFLE, _AUGMENT, _WINDOW, SUBSTITUTE, DONOR = 0, 1, 2, 3, 4

_LABELLED, _UNLABELLED, _PROPAGATED = 0, 1, 2


class StepSampler(Sampler[list[SampleKey]]):
    """The keys of each step: ``batch_size`` labelled scans and as many unlabelled ones.

    Both lists cycle, and each pass has another order. A step's scans depend on the seed and the
    step alone, so a resumed training continues exactly.

    Args:
        labelled: ids of the labelled scans.
        unlabelled: ids of the unlabelled scans; empty for a method that does not use them.
        batch_size: scans of each kind.
        seed: seed of the training.
        steps: first and one past the last step.
        part: number of this process, and number of processes. Each takes its part of every batch;
            together they process the same samples as one process.
        propagated: ids of unlabelled scans with propagated labels.
        share: share of propagated scans among the labelled ones of the steps, spread evenly.
    """

    def __init__(
        self,
        labelled: list[str],
        unlabelled: list[str],
        batch_size: int,
        seed: int,
        steps: range,
        part: tuple[int, int] = (0, 1),
        propagated: Sequence[str] = (),
        share: float = 0.0,
    ) -> None:
        self.lists = (labelled, unlabelled, list(propagated))
        self.share = share if propagated else 0.0
        self.batch_size, self.seed, self.steps = batch_size, seed, steps
        number, parts = part
        self.slots = range(number * batch_size // parts, (number + 1) * batch_size // parts)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        orders: dict[tuple[int, int], np.ndarray] = {}
        for step in self.steps:
            keys = []
            window = float(np.random.default_rng((self.seed, _WINDOW, step)).random())
            for kind in (_LABELLED, _UNLABELLED):
                if not self.lists[kind]:
                    continue
                for slot in self.slots:
                    taken, number = self._place(kind, step * self.batch_size + slot)
                    ids = self.lists[taken]
                    epoch, place = divmod(number, len(ids))
                    if (taken, epoch) not in orders:
                        for old in [k for k in orders if k[0] == taken and k[1] < epoch - 1]:
                            del orders[old]
                        rng = np.random.default_rng((self.seed, _SHUFFLE, taken, epoch))
                        orders[taken, epoch] = rng.permutation(len(ids))
                    scan_id = ids[orders[taken, epoch][place]]
                    seed = (self.seed, _AUGMENT, kind, step, slot)
                    keys.append(SampleKey(kind == _LABELLED, scan_id, seed, window))
            yield keys

    def _place(self, kind: int, number: int) -> tuple[int, int]:
        """The list to take a scan from, and the number already taken from it.

        Args:
            kind: _LABELLED or _UNLABELLED.
            number: of the scan among all of its kind in the training.
        """
        propagated = math.floor(number * self.share)
        if kind == _UNLABELLED:
            return kind, number
        if math.floor((number + 1) * self.share) > propagated:
            return _PROPAGATED, propagated
        return kind, number - propagated
