"""Read the scans of each training step as a batch."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from rangeseg.datasets.added_points import AddedPoints, copied_classes
from rangeseg.datasets.bad_scans import BadScan, BadScans
from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.range_images import RangeImages, Sample
from rangeseg.datasets.sampler import DONOR, SUBSTITUTE, SampleKey, StepSampler
from rangeseg.errors import DataError, RangesegError, one_line
from rangeseg.geometry.augmentation import AugmentationSettings
from rangeseg.system.process import keep_freed_memory

_log = logging.getLogger(__name__)


class LoadedSample(NamedTuple):
    """A sample, and the bad scans that it replaces."""

    sample: Sample
    bad: list[BadScan]


class LoadedStep(NamedTuple):
    """The labelled fields of a step, the unlabelled ones (if any), and the bad scans."""

    fields: list[dict[str, torch.Tensor]]
    bad: list[BadScan]


class TrainingScans(Dataset["LoadedSample | RangesegError"]):
    """Reads, augments and projects the scan of a key.

    Args:
        source: the data set.
        images: makes the range images.
        augmentation: settings for each scan.
        labelled: ids of the labelled scans; any may replace a bad one, or give objects.
        unlabelled: ids of the scans whose labels are never read.
        propagated: scan id -> propagated labels (N,) of unlabelled scans; IGNORE where unknown.
        bad_scans: policy for bad scans, and the counter of ``read_steps``.

    Raises:
        ConfigError: the augmentation names a class that the data set does not have.
    """

    def __init__(
        self,
        source: ScanSource,
        images: RangeImages,
        augmentation: AugmentationSettings,
        labelled: Sequence[str] = (),
        unlabelled: Sequence[str] = (),
        bad_scans: BadScans | None = None,
        propagated: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.propagated = propagated or {}
        self.source, self.images, self.augmentation = source, images, augmentation
        self.labelled, self.unlabelled = list(labelled), list(unlabelled)
        self.bad_scans = bad_scans or BadScans("fail", len(labelled) + len(unlabelled))
        self.copied = copied_classes(augmentation, source.info.label_map.names)

    def __getitem__(self, key: SampleKey) -> LoadedSample | RangesegError:
        """The sample of a key; the labels of an unlabelled scan are never read.

        Errors are returned: an error raised in a worker process would show two tracebacks.
        """
        bad: list[BadScan] = []
        for scan_id in self._candidates(key):
            try:
                scan = read_training_scan(self.source, self.propagated, scan_id, key.labelled)
                rng = np.random.default_rng(key.seed)
                sample = self.images.training_sample(
                    scan, rng, self.augmentation, key.window, self._objects(key, bad)
                )
                return LoadedSample(sample, bad)
            except DataError as error:
                bad.append(BadScan(scan_id, error))
            except RangesegError as error:
                return error
            except Exception as error:
                _log.debug("scan %s", scan_id, exc_info=True)
                return RangesegError(
                    f"scan {scan_id}: unexpected {type(error).__name__}: {error} "
                    "(--debug shows the traceback)"
                )
        return bad[0].error

    def _objects(self, key: SampleKey, bad: list[BadScan]) -> AddedPoints | None:
        """Objects for a labelled scan, from another scan that depends on the key alone.

        None if no objects are requested, or if the other scan is bad: it is added to ``bad``.
        """
        if not (self.copied and self.labelled and key.labelled):
            return None
        rng = np.random.default_rng((*key.seed, DONOR))
        scan_id = self.labelled[rng.integers(len(self.labelled))]
        try:
            scan = self.source.read_scan(scan_id)
            return self.images.objects(scan, self.copied, rng, self.augmentation)
        except DataError as error:
            bad.append(BadScan(scan_id, error))
            return None

    def _candidates(self, key: SampleKey) -> Iterator[str]:
        """The scan of a key, then its possible replacements: a function of the key alone."""
        yield key.scan_id
        others = self.labelled if key.labelled else self.unlabelled
        if self.bad_scans.policy == "fail" or not others:
            return
        rng = np.random.default_rng((*key.seed, SUBSTITUTE))
        for place in rng.integers(len(others), size=_SUBSTITUTES_TRIED):
            yield others[place]


def read_training_scan(
    source: ScanSource, propagated: Mapping[str, np.ndarray], scan_id: str, labelled: bool
) -> Scan:
    """Read a scan with its own labels, with propagated ones, or without any.

    Args:
        source: the data set.
        propagated: scan id -> labels (N,) that replace the scan's own.
        scan_id: id of the scan.
        labelled: whether the scan is labelled in this training.

    Raises:
        DataError: the scan cannot be read, or its propagated labels have another number of points.
    """
    if not labelled or scan_id not in propagated:
        return source.read_scan(scan_id, with_labels=labelled)
    scan, labels = source.read_scan(scan_id, with_labels=False), propagated[scan_id]
    if len(labels) != len(scan.points):
        raise DataError(
            f"scan {scan_id} has {len(scan.points)} points but {len(labels)} propagated labels: "
            "the scan was replaced; remove the propagated labels, and they are made again",
            kind="mismatch",
        )
    return replace(scan, labels=labels)


_SUBSTITUTES_TRIED = 20
"""Enough where few scans are bad; bounds the search in a short list of bad ones."""


def collate(samples: list[LoadedSample | RangesegError]) -> LoadedStep | RangesegError:
    """Stack the samples of one step into its fields; return the first error instead, if any."""
    read: list[Sample] = []
    bad: list[BadScan] = []
    for sample in samples:
        if isinstance(sample, RangesegError):
            return sample
        read.append(sample.sample)
        bad += sample.bad
    kinds = [[s for s in read if "labels" in s], [s for s in read if "labels" not in s]]
    fields = [{name: _stack([s[name] for s in kind]) for name in kind[0]} for kind in kinds if kind]
    return LoadedStep(fields, bad)


def _stack(arrays: list[np.ndarray]) -> torch.Tensor:
    """Stack arrays of one shape into a tensor.

    A loader process allocates it in memory shared with the training, which saves a copy.
    """
    shape, dtype = (len(arrays), *arrays[0].shape), arrays[0].dtype
    stacked = torch.from_numpy(np.empty(shape, dtype))
    if get_worker_info() is not None:
        stacked.share_memory_()  # type: ignore[no-untyped-call]
    np.stack(arrays, out=stacked.numpy())
    return stacked


def training_loader(
    scans: TrainingScans, sampler: StepSampler, workers: int, pin_memory: bool
) -> DataLoader[LoadedSample | RangesegError]:
    """One ``LoadedStep`` or error per step; see ``read_steps``."""
    return DataLoader(
        scans,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )


_GRACE_S = 60
"""Seconds that a loader process survives SIGTERM."""


def _start_worker(worker: int) -> None:
    """Let a worker survive signals to the whole job, so that the training finishes its step.

    SIGTERM is only delayed: Python also sends it to remaining processes at exit.
    """
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_S))


def read_steps(loader: Any, bad_scans: BadScans) -> Iterator[list[dict[str, torch.Tensor]]]:
    """The fields of each step; bad scans are counted as their step is taken.

    Raises:
        DataError: a scan cannot be read, or too many were skipped.
        RangesegError: another error of a loader process.
        RuntimeError: a loader process died; see ``naming_dead_loaders``.
    """
    try:
        for loaded in loader:
            if isinstance(loaded, RangesegError):
                raise loaded
            for bad in loaded.bad:
                bad_scans.add(bad.scan_id, bad.error)
            yield loaded.fields
    except (ConnectionError, EOFError) as error:  # it died while handing over a step
        raise RuntimeError(f"{_OF_PYTORCH} is gone: {one_line(error)}") from None


_OF_PYTORCH = "DataLoader worker"
"""How PyTorch's error for a dead loader process begins."""


@contextmanager
def naming_dead_loaders(
    what: str = "a process that loads scans",
    remedy: str = "free memory, or lower train.workers, and go on with --resume",
) -> Iterator[None]:
    """Report a dead loader process in one line, at whatever point PyTorch notices it.

    Raises:
        RangesegError: one died.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(_OF_PYTORCH):
            raise
        raise RangesegError(f"{what} died ({one_line(error)}): {remedy}") from None
