"""Scans with a file of points each, and perhaps one of labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.formats import read_header
from rangeseg.datasets.label_files import (
    check_label_file,
    read_labels,
    whole_labels,
)
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.scan_files import PointFile, ignore_empty, measured, read_points
from rangeseg.errors import DataError


class FileSource(ScanSource):
    """Scans with a file of points each, and perhaps one of labels.

    A subclass defines their paths, and by its ``layout`` their content.
    """

    layout = Layout()

    @abstractmethod
    def paths(self, scan_id: str) -> tuple[Path, Path | None]:
        """The point file and the label file of a scan; None where labels are not published.

        Raises:
            DataError: no such scan.
        """

    def check_files(self, scan_id: str, with_labels: bool = True) -> int:
        """Check a scan's files by their headers and sizes alone; see ``ScanSource``."""
        points_path, _ = self.paths(scan_id)
        with self._root_first():
            header = read_header(points_path, self.layout)
        if with_labels and (field := self.layout.fields.get("label")) is not None:
            _check_field(field, header.names, points_path)
        elif with_labels:
            label_path = self._label_path(scan_id)
            check_label_file(label_path, points_path, header.points, self.layout)
        return header.points

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """Read one scan; see ``ScanSource``. A beam beyond the sensor's is also a fault."""
        points_path, layout = self.paths(scan_id)[0], self.layout
        with self._root_first():
            file = read_points(points_path, layout, self._world_pose(scan_id))
        points = measured(file.points, layout.intensity_max)
        ring, labels = self._ring(file, points_path), None
        if with_labels:
            raw_labels, path = self._raw_labels(scan_id, file)
            labels = self.info.label_map.to_train(raw_labels, where=str(path))
            ignore_empty(points, labels)
        return Scan(scan_id, points, labels, ring)

    def read_raw_labels(self, scan_id: str) -> np.ndarray:
        """The raw labels (N,) of a scan, as ``LabelMap`` takes them.

        Raises:
            DataError: see ``read_scan``.
        """
        with self._root_first():
            file = read_points(self.paths(scan_id)[0], self.layout, self._world_pose(scan_id))
        return self._raw_labels(scan_id, file)[0]

    def _raw_labels(self, scan_id: str, file: PointFile) -> tuple[np.ndarray, Path]:
        """The raw labels (N,), of the label file or of a field of the point file, and the path."""
        points_path, field = self.paths(scan_id)[0], self.layout.fields.get("label")
        if field is None:
            path = self._label_path(scan_id)
            return read_labels(path, points_path, len(file.points), self.layout), path
        _check_field(field, file.fields, points_path)
        values = file.fields[field]
        return whole_labels(values, self.layout.label_type, points_path), points_path

    def _world_pose(self, scan_id: str) -> np.ndarray | None:
        """The sensor's pose (4,4) in the points' frame; None if that is the sensor's own."""
        return None

    def _label_path(self, scan_id: str) -> Path:
        path = self.paths(scan_id)[1]
        if path is None:
            raise DataError(
                f"the labels of scan {scan_id} are not published: predict it, but do not train or "
                "evaluate on it",
                kind="missing",
            )
        return path

    def _ring(self, file: PointFile, path: Path) -> np.ndarray | None:
        """The beam (N,) int32, 0 the highest; None unless it is stated or the rows need it."""
        layout, sensor = self.layout, self.info.sensor
        stated = layout.ring_column is not None or "ring" in layout.fields
        if "ring" not in file.roles or not (stated or sensor.row_rule == "ring"):
            return None
        name, beams = file.roles["ring"], sensor.beams
        ring = file.fields[name]
        ring = np.where(np.isfinite(ring), ring, 0)  # all values of a lost echo may be NaN
        if ring.min() < 0 or ring.max() >= beams or (np.floor(ring) != ring).any():
            column = name.startswith("column_")
            where = name.replace("_", " ") if column else f"field '{name}'"
            raise DataError(
                f"{path} holds {ring.min():g} to {ring.max():g} in {where}, "
                f"expected whole numbers 0 to {beams - 1}, the beams of sensor {sensor.name}: "
                "check the sensor of the scan (data set 'custom': layout.ring_column or "
                "layout.fields.ring, and sensor.beams)"
            )
        numbers = ring.astype(np.int32)
        return numbers if layout.ring_zero == "highest" else beams - 1 - numbers

    @contextmanager
    def _root_first(self) -> Iterator[None]:
        """If the whole root is wrong, report that instead of the missing file."""
        try:
            yield
        except DataError as error:
            if error.kind == "missing":
                self.check_root()
            raise


def _check_field(field: str, names: Container[str], path: Path) -> None:
    if field not in names:
        raise DataError(
            f"{path} has no field '{field}', which layout.fields.label names: leave the scan out "
            "of the labelled list, or correct the name",
            kind="missing",
        )
