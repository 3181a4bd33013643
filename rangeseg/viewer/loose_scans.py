"""Scans that belong to no data set, with what a network says of them."""

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
    """Files of scans with predictions; there is no truth. What seems wrong is logged.

    Args:
        network: the folder of a run, or a file that ``rangeseg export`` wrote.
        paths: files of scans, and folders of them.
        layout: what the user states of the files; its fields that were set count.
        min_confidence: from which a prediction would be a pseudo-label.
        device: where the network of a run runs.

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
