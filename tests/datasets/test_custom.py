"""People's own scans: what a description may say, which files are read, labelled or not."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rangeseg.cli import main
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.splits import ListFile, labelled_and_unlabelled, parse_labels
from rangeseg.engine.inference import EvaluateSettings, Predictor
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.engine.torch_backend import TorchBackend
from rangeseg.errors import ConfigError, DataError
from rangeseg.geometry.backprojection import nearest_point
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.channels import to_image
from rangeseg.models import ModelSettings, build_network
from rangeseg.runs.config import Config, check_config, load_config
from tests.datasets.own_scans import (
    BEAMS,
    DESCRIPTION,
    raw_labels,
    turn,
    write_labels,
    write_points,
    write_root,
)

EXAMPLE = Path(__file__).parents[2] / "configs" / "custom_example.yaml"


def described(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(DESCRIPTION), **changes}


def check(description: dict[str, Any]) -> Description:
    values = {
        "dataset": {"name": "custom", "root": "data", "description": description},
        "range_image": {"height": 16, "width": 256},
    }
    config = check_config(Config, values, "mine.yaml")
    assert config.dataset.description is not None
    return config.dataset.description


def source(root: Path, **changes: Any) -> Custom:
    return Custom(root, check(described(**changes)))


def one(name: Any = "floor", ids: Any = (7,), colour: Any = (1, 2, 3)) -> dict[str, Any]:
    return {"name": name, "ids": list(ids), "colour": list(colour)}


def sensor(**changes: Any) -> dict[str, Any]:
    return {"sensor": {**DESCRIPTION["sensor"], **changes}}


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"classes": [one(ids=[7, 7])]}, "classes.0.ids", r"here twice \(found 7\)"),
        (
            {"classes": [one(), one("wall", ids=[9, 7])]},
            "classes.1.ids", r"here and also in 'floor' \(found 7\)",
        ),
        ({"ignored_ids": [0, 9]}, "ignored_ids", r"here and also in 'wall' \(found 9\)"),
        ({"classes": [one(" ")]}, "classes.0.name", "a class needs a name"),
        ({"classes": [{"ids": [7], "colour": [1, 2, 3]}]}, "classes.0.name", "missing"),
        ({"classes": [one(), one(ids=[9])]}, "classes.1.name", "classes.0 has this name already"),
        ({"classes": [one(ids=[])]}, "classes.0.ids", "'floor' needs the raw ids"),
        (
            {"classes": [one(f"c{i}", [i + 1]) for i in range(254)]},
            "classes", "name 1 to 253 classes, not 254",
        ),
        ({"classes": [{**one(), "nmae": 7}]}, "classes.0.nmae", r"did you mean 'name'\?"),
        ({"classes": [one(colour=[0, 256, 0])]}, "classes.0.colour", r"0 to 255 \(found 256\)"),
        ({"classes": [one(ids=[65536])]}, "classes.0.ids", r"0 to 65535 \(found 65536\)"),
        (
            {"classes": [one(ids=[256])], "layout": {"label_type": "uint8"}},
            "classes.0.ids", r"0 to 255 \(found 256\)",
        ),
        (
            {"sequences": {"train": [1], "val": ["03"]}},
            "sequences.train.0", r"quote it: '01'.*\(found 1\)",
        ),
        ({"sequences": {"train": ["a/b"], "val": ["03"]}}, "sequences.train.0", "folder's name"),
        ({"sequences": {"train": ["01"]}}, "sequences.val", "at least one sequence to evaluate on"),
        ({"sequences": {"train": [], "val": ["3"]}}, "sequences.train", "one sequence to train on"),
        ({"sequences": {"train": ["1", "1"], "val": ["3"]}}, "sequences.train", "here twice"),
        (
            {"sequences": {"train": ["01", "02"], "val": ["02"]}},
            "sequences.val", r"here and also in train \(found '02'\)",
        ),
        ({"sequences": {"trian": ["01"], "val": ["02"]}}, "sequences.trian", "'train', 'val' or"),
        ({"statistics": {"rnage": [0, 1]}}, "statistics.rnage", r"did you mean 'range'\?"),
        ({"statistics": {"range": [12, 0]}}, "statistics.range.1", r"positive \(found 0.0\)"),
        (sensor(rows="ring"), "sensor.rows", "rows by ring need layout.ring_column"),
        (sensor(fov_up_deg=-30), "sensor", "fov_down_deg -21 must be below fov_up_deg -30"),
        (sensor(fov_up_deg=120), "sensor.fov_up_deg", "less than or equal to 90"),
        (
            sensor(azimuth_left_deg=90, azimuth_right_deg=270), "sensor",
            "azimuth must fall from azimuth_left_deg 90 to azimuth_right_deg 270 by at most 360",
        ),
        (sensor(azimuth_left_deg=190), "sensor", "azimuth must fall .* 190 to .* -180 by at most"),
        (sensor(beams=0), "sensor.beams", "greater than or equal to 1"),
        ({"layout": {"columns": 2}}, "layout.columns", "greater than or equal to 3"),
        (
            {"layout": {"columns": 5, "ring_column": 5}},
            "layout.ring_column", r"there are 5 in all.* \(found 5\)",
        ),
        ({"layout": {"columns": 5, "ring_column": 3}}, "layout.ring_column", "x, y, z and intens"),
        ({"layout": {"label_type": "int24"}}, "layout.label_type", "'uint8', 'uint16', 'uint32'"),
        ({"layout": {"axes": ["x", "-x", "z"]}}, "layout.axes", "are three different axes"),
        ({"layout": {"fields": {"rign": "line"}}}, "layout.fields.rign", "'ring'"),
        (
            {"layout": {"columns": 5, "ring_column": 4, "fields": {"ring": "line"}}},
            "layout", "state ring_column or fields.ring, not both",
        ),
        (
            {"classes": [one(ids=[128])], "layout": {"label_type": "int8"}},
            "classes.0.ids", r"-128 to 127 \(found 128\)",
        ),
        ({"layout": {"intensity_max": 0}}, "layout.intensity_max", "greater than 0"),
    ],
)  # fmt: skip
def test_wrong_descriptions_are_named(changes: dict, place: str, message: str) -> None:
    where = place.replace(".", r"\.")
    with pytest.raises(ConfigError, match=rf"dataset\.description\.{where}[^\n]*: .*{message}"):
        check(described(**changes))


def test_all_errors_come_at_once() -> None:
    wrong = described(
        classes=[one(ids=[7, 300]), one("wall", ids=[7], colour=[0, 0, 256])],
        ignored_ids=[256],
        layout={"label_type": "uint8"},
        sequences={"train": [1], "val": ["03"]},
        statistics={"range": [0, -1], "rnage": [0, 1]},
        **sensor(fov_up_deg=-30),
    )
    with pytest.raises(
        ConfigError, match=r"mine.yaml: 8 wrong setting\(s\)(\n  dataset[^\n]*){8}$"
    ):
        check(wrong)


def test_the_example_describes_all_of_pandaset(real_data: Path) -> None:
    description = load_config(EXAMPLE).dataset.description
    assert description is not None
    official = json.loads((real_data / "pandaset_semkitti/pandaset_classes.json").read_text())
    ids = {raw for c in description.classes for raw in c.ids} | set(description.ignored_ids)
    assert ids == {0, *map(int, official)}
    by_name = {c.name: " ".join(official[str(raw)] for raw in c.ids) for c in description.classes}
    for name, word in {
        "road": "Road", "sidewalk": "Driveway", "vehicle": "Bus", "two-wheeler": "Motorcycle",
        "person": "Pedestrian", "object": "Signs", "building": "Building",
    }.items():  # fmt: skip
        assert word in by_name[name]


@pytest.mark.parametrize("label_type", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize(("suffix", "columns"), [(".bin", 4), (".pcd.bin", 5), (".npy", 6)])
def test_formats(suffix: str, columns: int, label_type: str, tmp_path: Path) -> None:
    points, beam = turn()
    more = np.stack([BEAMS - 1 - beam, np.full(len(beam), 0.5)], axis=1)[:, : columns - 4]
    values = np.concatenate([points * [1, 1, 1, 255], more], axis=1)
    raw = raw_labels(points).astype(label_type)
    if label_type == "uint32":
        raw |= np.uint32(3 << 16)  # an instance
    write_points(tmp_path, "01/000000", values.astype(np.float64), suffix)
    write_labels(tmp_path, "01/000000", raw, ".mark")
    layout = {
        "points_suffix": suffix, "columns": columns, "intensity_max": 255,
        "labels_suffix": ".mark", "label_type": label_type,
    }  # fmt: skip
    if columns > 4:
        layout |= {"ring_column": 4, "ring_zero": "lowest"}
    mine = source(tmp_path, layout=layout)
    assert mine.sequence_ids("01") == ["01/000000"]
    assert mine.check_files("01/000000") == len(points)
    scan = mine.read_scan("01/000000")
    np.testing.assert_allclose(scan.points, points, rtol=1e-6)
    assert scan.points.dtype == np.float32
    assert scan.labels is not None
    np.testing.assert_array_equal(scan.labels, raw_labels(points) == 9)  # floor 0, wall 1
    if columns > 4:
        np.testing.assert_array_equal(scan.ring, beam)
    else:
        assert scan.ring is None

    prediction = mine.encode_prediction(np.array([0, 1, IGNORE], dtype=np.uint8))
    assert prediction.dtype == label_type
    assert prediction.tolist() == [7, 9, 0]
    assert mine.prediction_file("01/000000", "val") == "sequences/01/predictions/000000.mark"


def test_rows_come_from_the_ring_of_the_file(tmp_path: Path) -> None:
    points, beam = turn()
    values = np.concatenate([points, beam[:, None]], axis=1)
    values[5] = np.nan  # a lost echo
    write_points(tmp_path, "01/000000", values)
    layout = {"columns": 5, "ring_column": 4}
    mine = source(tmp_path, layout=layout, **sensor(rows="ring"))
    scan = mine.read_scan("01/000000", with_labels=False)
    settings = RangeImageSettings(height=BEAMS, width=256)
    projection, rule = RangeImages(mine.info, settings).project(scan)
    assert rule == "ring"
    assert projection.row[5] == -1
    real = np.arange(len(beam)) != 5
    np.testing.assert_array_equal(projection.row[real], beam[real])


@pytest.mark.parametrize("wrong", [BEAMS, -1, 0.5])
def test_a_ring_that_is_none(wrong: float, tmp_path: Path) -> None:
    points, beam = turn()
    values = np.concatenate([points, beam[:, None]], axis=1)
    values[7, 4] = wrong
    write_points(tmp_path, "01/000000", values)
    mine = source(tmp_path, layout={"columns": 5, "ring_column": 4}, **sensor(rows="ring"))
    with pytest.raises(DataError, match=r"000000\.bin holds .* in column 4, expected whole"):
        mine.read_scan("01/000000", with_labels=False)


def test_a_truncated_npy_and_a_wrong_number_of_columns(tmp_path: Path) -> None:
    points, _ = turn()
    path = write_points(tmp_path, "01/000000", points, ".npy")
    path.write_bytes(path.read_bytes()[:-8])
    write_points(tmp_path, "01/000001", points[:, :3], ".npy")
    write_points(tmp_path, "01/000002", points.astype(np.int32), ".npy")
    mine = source(tmp_path, layout={"points_suffix": ".npy"})
    with pytest.raises(DataError, match=r"000000\.npy is not a whole \.npy file"):
        mine.check_files("01/000000", with_labels=False)
    for frame, found in (("1", r"float32 of shape \(3072, 3\)"), ("2", "int32 of shape")):
        with pytest.raises(DataError, match=rf"{found}.*expected floats of shape \(N, 4\)"):
            mine.read_scan(f"01/00000{frame}", with_labels=False)
    write_points(tmp_path, "02/000000", points[:-1])
    mine = source(tmp_path, layout={"columns": 5})
    with pytest.raises(DataError, match="not a multiple of 20"):
        mine.read_scan("02/000000", with_labels=False)


def test_scans_without_labels_are_the_unlabelled_pool(tmp_path: Path) -> None:
    root = write_root(tmp_path)
    mine = source(root)
    for scan_id in ("01/000001", "01/000002", "02/000000", "03/000003"):
        mine.paths(scan_id)[1].unlink()
    assert len(mine.scan_ids("train")) == 8
    marked = ["01/000000", "01/000003", "02/000001", "02/000002", "02/000003"]
    assert mine.labelled_ids("train") == marked
    assert mine.labelled_ids("val") == ["03/000000", "03/000001", "03/000002"]
    for seed in range(5):
        labelled, unlabelled = labelled_and_unlabelled(mine, parse_labels("50%"), seed)
        assert len(labelled) == 2  # of five
        assert set(labelled) < set(marked)
        assert sorted(labelled + unlabelled) == mine.scan_ids("train")
    for path in root.glob("sequences/*/labels/*"):
        path.unlink()
    with pytest.raises(DataError, match="the train split has none with labels"):
        labelled_and_unlabelled(mine, parse_labels("50%"), 0)


def test_a_list_of_scans_without_labels_is_refused(tmp_path: Path) -> None:
    mine = source(write_root(tmp_path / "mine"))
    mine.paths("01/000001")[1].unlink()
    path = tmp_path / "list.txt"
    path.write_text("01/000000\n01/000001\n")
    with pytest.raises(DataError, match=r"list.txt: 1 of 2 scans have no label .*: 01/000001: lab"):
        labelled_and_unlabelled(mine, ListFile(path), 0)
    mine.paths("01/000001")[1].symlink_to(tmp_path / "gone")  # is a fault, not a scan without
    assert labelled_and_unlabelled(mine, ListFile(path), 0)[0] == ["01/000000", "01/000001"]
    with pytest.raises(DataError, match=r"000001\.label does not exist"):
        mine.read_scan("01/000001")


def test_frames_go_by_their_numbers(tmp_path: Path) -> None:
    names = ["0", "1", "2", "10", "a2", "a10", "b1_9", "b1_10"]
    for name in reversed(names):
        write_points(tmp_path, f"01/{name}", turn()[0])
    assert source(tmp_path).sequence_ids("01") == [f"01/{name}" for name in names]


def test_a_point_without_an_intensity_is_where_it_is(tmp_path: Path) -> None:
    points, _ = turn()
    points[::3, 3], points[1::3, 3] = np.nan, 1e38
    write_points(tmp_path, "01/0", points)
    write_labels(tmp_path, "01/0", raw_labels(points))
    scan = source(tmp_path).read_scan("01/0")
    assert scan.labels is not None
    assert (scan.labels != IGNORE).all()
    np.testing.assert_array_equal(scan.points[:, :3], points[:, :3])
    np.testing.assert_array_equal(scan.points[:, 3], np.where(points[:, 3] <= 1, points[:, 3], 0))


def test_training_on_few_labels_reads_no_others(tmp_path: Path) -> None:
    """Scans without label files in both splits, through the whole road."""
    root = write_root(tmp_path / "mine")
    mine = source(root)
    mine.paths("01/000001")[1].unlink()
    mine.paths("03/000000")[1].unlink()
    config = tmp_path / "mine.yaml"
    values = {
        "dataset": {"name": "custom", "root": str(root), "description": DESCRIPTION},
        "range_image": {"height": 16, "width": 192, "crop_width": 64},
        "model": {"width": 4},
        "train": {"steps": 2, "batch_size": 2},
    }
    config.write_text(json.dumps(values))  # JSON is YAML
    words = ["train", str(config), "--method", "cutmix_seg", "--labels", "50%"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["run"]["labelled_scans"] == 3  # half of the seven that have labels
    assert result["scans"] == 3  # of four
    assert set(result["iou"]) == {"floor", "wall"}
    assert result["protocol"]["rows"] == "inclination"


def test_an_ignored_id_can_be_named_after_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pseudo-labels that are not sure need one; labels without any need none."""
    values = {
        "dataset": {
            "name": "custom", "root": str(write_root(tmp_path / "mine")),
            "description": {**DESCRIPTION, "ignored_ids": []},
        },
        "range_image": {"height": 16, "width": 192}, "model": {"width": 4},
        "train": {"steps": 1, "batch_size": 2},
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(json.dumps(values))
    run, out = tmp_path / "run", tmp_path / "out"
    words = ["train", str(tmp_path / "mine.yaml"), "--method", "supervised", "--labels", "50%"]
    assert main([*words, "--out", str(run)]) == 0
    words = ["predict", str(run), "--split", "val", "--out", str(out), "--min-confidence", "1"]
    assert main(words) == 2
    assert "name one under ignored_ids" in capsys.readouterr().err
    assert not out.exists()
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("ignored_ids: []", "ignored_ids: [0]"))
    assert main(words) == 0
    (file,) = out.glob("sequences/03/predictions/000000.label")
    assert (np.fromfile(file, dtype=np.uint32) == 0).mean() > 0.9


def pandaset(real_data: Path) -> tuple[Config, Custom]:
    config = load_config(EXAMPLE, [f"dataset.root={real_data / 'pandaset_semkitti'}"])
    assert config.dataset.description is not None
    return config, Custom(config.dataset.root, config.dataset.description)


@pytest.mark.real_data
def test_pandaset_there_and_back(real_data: Path) -> None:
    """Perfect labels in the example's image keep what its comment says."""
    config, scans = pandaset(real_data)
    images = RangeImages(scans.info, config.range_image)
    confusion = ConfusionMatrix(scans.info.label_map.num_classes)
    scan_ids = scans.scan_ids("train") + scans.scan_ids("val")
    assert len(scan_ids) == 8
    for scan_id in scan_ids:
        scan = scans.read_scan(scan_id)
        assert scan.labels is not None
        assert 0.9 < np.mean(scan.labels != IGNORE) < 1.0
        projection, rule = images.project(scan)
        assert rule == "inclination"
        assert np.array_equal(projection.row >= 0, projection.depth > 0)
        pixels = to_image(scan.labels, projection.point_index, IGNORE)
        back = nearest_point(pixels, projection, scan.points)
        confusion.update(np.minimum(back, 8), scan.labels)
    assert 100 * confusion.miou("nuscenes") == pytest.approx(93.9, abs=0.5)


@pytest.mark.real_data
@pytest.mark.slow
def test_pandaset_from_training_to_result(real_data: Path, tmp_path: Path) -> None:
    words = ["train", str(EXAMPLE), "--method", "cps", "--labels", "50%"]
    settings = [
        f"dataset.root={real_data / 'pandaset_semkitti'}", "range_image.height=32",
        "range_image.width=256", "range_image.crop_width=64", "model.width=4", "train.steps=2",
        "train.workers=0",
    ]  # fmt: skip
    words += [word for s in settings for word in ("--set", s)]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["protocol"]["image"] == [32, 256]
    assert result["scans"] == 4
    assert set(result["iou"]) >= {"road", "two-wheeler"}


def rellis(real_data: Path, root: Path) -> Custom:
    """The scan of RELLIS-3D under links, for its files lie flat."""
    folder = root / "sequences" / "00000"
    for name, file in {"velodyne": "000104.bin", "labels": "000104.label"}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / file).symlink_to(real_data / "rellis3d_example" / file)
    classes = {
        "grass": 3, "tree": 4, "person": 17, "fence": 18, "bush": 19, "mud": 31, "rubble": 33,
        "puddle": 23,
    }  # fmt: skip
    description = described(
        classes=[one(name, [raw]) for name, raw in classes.items()],
        ignored_ids=[0],
        sensor={"beams": 64, "fov_up_deg": 17.4, "fov_down_deg": -16.8, "rows": "file_order"},
        sequences={"train": ["00000"], "val": ["00001"]},
        layout={"intensity_max": 0.01},
    )
    return Custom(root, check(description))


@pytest.mark.real_data
@pytest.mark.parametrize("rows", ["file_order", "inclination"])
def test_rellis_and_its_empty_returns(rows: Any, real_data: Path, tmp_path: Path) -> None:
    scans = rellis(real_data, tmp_path)
    scan = scans.read_scan("00000/000104")
    empty = (scan.points[:, :3] == 0).all(axis=1)
    assert empty.sum() == 53_364
    assert scan.labels is not None
    assert (scan.labels[empty] == IGNORE).all()

    settings = RangeImageSettings(height=64, width=2048, rows=rows)
    images = RangeImages(scans.info, settings)
    projection, rule = images.project(scan)
    assert rule == rows
    np.testing.assert_array_equal(projection.row < 0, empty)
    if rows == "file_order":  # every other point owns its pixel
        assert projection.valid.sum() == (~empty).sum()
        beams = beam_rows(scan.points, images.sensor)
        assert beams is not None
        np.testing.assert_array_equal(projection.row[~empty], beams[~empty])

    torch.manual_seed(0)
    network = build_network(ModelSettings(width=4), len(settings.channels), 8)
    backend = TorchBackend(network, torch.device("cpu"), "float32")
    predictor = Predictor(backend, images, EvaluateSettings(), 8)
    (prediction,) = predictor.predict(scans, ["00000/000104"])
    assert prediction.points.shape == (131_072,)
    assert prediction.points.max() < 8
