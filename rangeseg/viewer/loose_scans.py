"""Scans outside any data set, with predictions of a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rangeseg.datasets.layout import Layout
from rangeseg.datasets.loose_files import find_files
from rangeseg.runs.load import load_segmenter
from rangeseg.runs.predict_files import judge_files, open_files
from rangeseg.viewer.scans import ScanView, ScanViews


def open_loose_scans(
    network: Path, paths: Sequence[Path], layout: Layout, min_confidence: float, device: str
) -> ScanViews:
    """Open files of scans with predictions, without truth; log doubts.

    Args:
        network: the folder of a run, or a file from ``rangeseg export``.
        paths: files of scans, and folders of them.
        layout: the user's layout of the files; only fields that were set count.
        min_confidence: least confidence of a pseudo-label.
        device: device for a run's network.

    Raises:
        RangesegError: see ``load_segmenter``, ``find_files`` and ``open_files``.
    """
    files = find_files(paths)
    segmenter = load_segmenter(network, device=device)
    source, predictor = open_files(segmenter.metadata, files, layout), segmenter.predictor
    judge_files(segmenter.metadata, source, anyway=True)

    def read(scan_id: str) -> ScanView:
        (found,) = predictor.predict(source, [scan_id], False, True)
        assert found.confidence is not None
        covered = found.confidence >= min_confidence
        return ScanView(found.scan, found.points, found.confidence, covered)

    title = f"{network} on {paths[0]}"
    return ScanViews(source, predictor.images, title, list(files), read, True, True)
