"""Real scans cut to what a sensor sees that does not turn, from the training to the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rangeseg.cli import main
from rangeseg.datasets import open_dataset
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.packed.write import pack_dataset
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.survey.statistics import field_of_view_warning
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.geometry.backprojection import nearest_point
from rangeseg.geometry.channels import to_image
from rangeseg.geometry.sensor import Sensor
from tests.datasets.own_scans import DESCRIPTION, turn, write_labels, write_points, write_root

SENSOR = Sensor(
    "front", beams=16, height=16, width=48, fov_up_deg=11, fov_down_deg=-21,
    azimuth_left_deg=45, azimuth_right_deg=-45,
)  # fmt: skip
SEQUENCES = {"train": ["00", "01"], "val": ["03"]}
VIEWS = {"front": (45.0, -45.0), "rear": (225.0, 135.0)}


def describe(left: float, right: float, rows: str = "scan_order") -> dict[str, Any]:
    labels = SemanticKitti.info.label_map
    return {
        "classes": [
            {
                "name": name,
                "ids": [raw for raw, train in labels.raw_to_train.items() if train == number],
                "colour": [int(value) for value in labels.colours[number]],
            }
            for number, name in enumerate(labels.names)
        ],
        "ignored_ids": [raw for raw, train in labels.raw_to_train.items() if train == IGNORE],
        "sensor": {
            "beams": 64, "fov_up_deg": 3, "fov_down_deg": -25, "rows": rows,
            "azimuth_left_deg": left, "azimuth_right_deg": right,
        },
        "sequences": SEQUENCES,
        "statistics": {"range": [12, 12]},
    }  # fmt: skip


def cut(real_data: Path, root: Path, left: float, right: float) -> Path:
    """The real scans of SEQUENCES, of which only the points between two azimuths are kept."""
    for names in SEQUENCES.values():
        for name in names:
            folder = real_data / "semantickitti_mini/sequences" / name
            for path in sorted(folder.glob("velodyne/*.bin")):
                points = np.fromfile(path, dtype=np.float32).reshape(-1, 4)
                raw = np.fromfile(folder / "labels" / f"{path.stem}.label", dtype=np.uint32)
                azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
                seen = (left - azimuth) % 360 <= left - right
                write_points(root, f"{name}/{path.stem}", points[seen])
                write_labels(root, f"{name}/{path.stem}", raw[seen])
    return root


@pytest.mark.real_data
@pytest.mark.parametrize("view", VIEWS)
def test_the_image_is_full_and_labels_come_back(view: str, real_data: Path, tmp_path: Path) -> None:
    """As well as those of the full turn: 96 % mIoU in 2048 columns."""
    description = Description.model_validate(describe(*VIEWS[view]))
    source = Custom(cut(real_data, tmp_path, *VIEWS[view]), description)
    images = RangeImages(source.info, RangeImageSettings(height=64, width=512))
    confusion = ConfusionMatrix(source.info.label_map.num_classes)
    for scan_id in source.scan_ids("train") + source.scan_ids("val"):
        scan = source.read_scan(scan_id)
        assert scan.labels is not None
        projection, rule = images.project(scan)
        assert rule == "scan_order"
        assert projection.valid.any(axis=0).all()
        assert 0.6 < projection.valid.mean() < 0.9
        pixels = to_image(scan.labels, projection.point_index, IGNORE)
        back = nearest_point(pixels, projection, scan.points)
        confusion.update(np.minimum(back, confusion.num_classes - 1), scan.labels)
    assert confusion.miou("nuscenes") > 0.9


def test_points_outside_the_view_are_warned_of() -> None:
    front = SENSOR.resized(16, 48, "ring")
    points, _ = turn()
    seen = np.abs(np.degrees(np.arctan2(points[:, 1], points[:, 0]))) < 45
    warning = field_of_view_warning(points, front)
    assert warning is not None
    assert "75.0% of a scan's points lie outside the view of sensor front, azimuth 45 to" in warning
    assert "azimuth_left_deg" in warning
    assert field_of_view_warning(points[seen], front) is None


def test_a_pack_keeps_the_view(tmp_path: Path) -> None:
    values = {**DESCRIPTION, "sensor": {**DESCRIPTION["sensor"], "azimuth_left_deg": 0}}
    description = Description.model_validate(values)
    source = Custom(write_root(tmp_path / "mine"), description)
    pack_dataset(source, "custom", tmp_path / "mine.pack")
    packed = open_dataset("custom", tmp_path / "mine.pack", description)
    assert packed.info.sensor == source.info.sensor
    assert (packed.info.sensor.view_deg, packed.info.sensor.width) == (180.0, 1024)


@pytest.mark.real_data
@pytest.mark.parametrize("view", ["front", pytest.param("rear", marks=pytest.mark.slow)])
def test_from_training_to_result(
    view: str, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = cut(real_data, tmp_path / "mine", *VIEWS[view])
    values = {
        "dataset": {"name": "custom", "root": str(root), "description": describe(*VIEWS[view])},
        "range_image": {"height": 32, "width": 256, "crop_width": 64},
        "model": {"width": 4},
        "train": {"steps": 2, "batch_size": 2, "workers": 0, "boundary_weight": 1.0},
    }
    config, run = tmp_path / "mine.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(values))
    words = ["train", str(config), "--method", "cutmix_seg", "--labels", "50%", "--out", str(run)]
    assert main(words) == 0
    first = json.loads((run / "result.json").read_text())
    assert first["scans"] == 3
    assert first["protocol"]["rows"] == "scan_order"

    assert main(["evaluate", str(run)]) == 0  # the network is built again from the run alone
    assert json.loads((run / "result.json").read_text())["miou"] == first["miou"]
    out = tmp_path / "out"
    assert main(["predict", str(run), "--split", "val", "--out", str(out)]) == 0
    for path in sorted((root / "sequences/03/labels").glob("*.label")):
        predicted = np.fromfile(out / "sequences/03/predictions" / path.name, dtype=np.uint32)
        assert predicted.shape == np.fromfile(path, dtype=np.uint32).shape
        assert set(predicted) <= set(SemanticKitti.info.label_map.raw_to_train)
    capsys.readouterr()
