"""Points that a training adds: in gaps of the rows, and objects of other labelled scans."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.added_points import AddedPoints, ProjectedScan, add, gap_points, objects_of
from rangeseg.datasets.bad_scans import BadScans
from rangeseg.datasets.base import Scan
from rangeseg.datasets.batches import TrainingScans, read_steps, training_loader
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.sampler import StepSampler
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import ConfigError, DataError
from rangeseg.geometry.augmentation import AugmentationSettings
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import HDL_64E, Sensor
from tests.data_tools.kitti_layout import write_root

TURN = Sensor("turn", beams=16, height=16, width=64, fov_up_deg=20, fov_down_deg=-20)
FRONT = replace(TURN, name="front", azimuth_left_deg=60, azimuth_right_deg=-60)
STILL = AugmentationSettings(rotate=False, flip=False, scale=0, jitter_std=0, drop=0)


def projected(sensor: Sensor, seed: int = 0, layers: int = 1, size: int = 900) -> ProjectedScan:
    """Random points of five classes, some of them nowhere."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 10, (size, 4)).astype(np.float32) * np.float32([1, 1, 0.2, 1])
    points[::17] = np.nan
    labels = rng.integers(0, 5, size).astype(np.uint8)
    labels[::11] = IGNORE
    return ProjectedScan(points, labels, project_points(points, sensor, layers=layers))


@pytest.mark.parametrize("layers", [1, 3])
def test_scans_added_together_are_one_projection(layers: int) -> None:
    scan, other = (projected(TURN, seed, layers) for seed in (0, 1))
    shown = other.projection.row >= 0
    labels, place = other.labels, other.projection
    assert labels is not None
    added = AddedPoints(other.points[shown], labels[shown], place.row[shown], place.col[shown])
    both = add(scan, added)
    expected = project_points(np.concatenate([scan.points, added.points]), TURN, layers=layers)
    for name in ("row", "col", "point_index"):
        assert np.array_equal(getattr(both.projection, name), getattr(expected, name)), name
    np.testing.assert_allclose(both.projection.depth, expected.depth, rtol=1e-6)


@pytest.mark.parametrize("factor", [1, 4])
@pytest.mark.parametrize("sensor", [TURN, FRONT], ids=lambda sensor: sensor.name)
def test_gaps_agree_with_a_loop_over_pixels(sensor: Sensor, factor: int) -> None:
    scan = projected(sensor, size=900 * factor)
    fine = project_points(scan.points, sensor.resized(16, 64 * factor))
    found = gap_points(scan, fine)
    labels = scan.labels
    assert labels is not None
    assert found.labels is not None
    expected = []
    width = 64 * factor
    for row in range(16):
        for col in range(width):
            if not sensor.full_turn and col in (0, width - 1):
                continue
            one, here, other = (int(fine.point_index[row, (col + s) % width]) for s in (-1, 0, 1))
            if here < 0 <= min(one, other):
                label = labels[one] if labels[one] == labels[other] else IGNORE
                mean = (scan.points[one] + scan.points[other]) / 2
                expected.append([row, col // factor, label, *mean])
    told = [found.row, found.col, found.labels, *found.points.T]
    np.testing.assert_allclose(np.stack(told, axis=1), expected, rtol=1e-6)
    assert len(expected) > 30
    assert {255} < {*found.labels.tolist()}  # some agree
    unlabelled = gap_points(scan._replace(labels=None), fine)
    assert unlabelled.labels is None
    assert np.array_equal(unlabelled.points, found.points)


@pytest.mark.parametrize("sensor", [TURN, FRONT], ids=lambda sensor: sensor.name)
def test_objects_keep_distance_height_and_row_and_fall_where_they_are_said_to(
    sensor: Sensor,
) -> None:
    scan = projected(sensor)
    still = objects_of(scan, [1, 3], sensor.view_deg, None)
    turned = objects_of(scan, [1, 3], sensor.view_deg, np.random.default_rng(5))
    assert still.labels is not None
    assert {*still.labels.tolist()} == {1, 3}
    for name in ("labels", "row"):
        assert np.array_equal(getattr(turned, name), getattr(still, name))
    assert np.array_equal(turned.points[:, 2:], still.points[:, 2:])
    radius, before = (np.hypot(*objects.points[:, :2].T) for objects in (turned, still))
    np.testing.assert_allclose(radius, before, rtol=1e-5)
    inside = np.ones(len(before), bool)
    if not sensor.full_turn:  # what is beside the view is shown in its first and last column
        azimuth = np.degrees(np.arctan2(still.points[:, 1], still.points[:, 0]))
        inside = np.abs(azimuth) < 60
    again = project_points(turned.points, sensor)
    steps = (again.col - turned.col + 32) % 64 - 32
    assert np.abs(steps[inside]).max() <= 1  # a border of two columns
    assert (steps[inside] == 0).mean() > 0.99
    assert (turned.col != still.col).mean() > 0.8


def test_an_object_stays_whole_and_a_point_behind_another_class_is_no_object() -> None:
    """Two groups of class 1 far apart, and a hidden point of it behind class 0."""
    angles = np.radians([10, 16, 22, 100, 106, 200, 200])
    depth = np.array([5, 5, 5, 9, 9, 4, 8])
    points = np.zeros((7, 4), np.float32)
    points[:, 0], points[:, 1] = depth * np.cos(angles), depth * np.sin(angles)
    labels = np.array([1, 1, 1, 1, 1, 0, 1], np.uint8)
    scan = ProjectedScan(points, labels, project_points(points, TURN))
    apart = set()
    for seed in range(10):
        objects = objects_of(scan, [1], 360.0, np.random.default_rng(seed))
        assert len(objects.points) == 5
        place = objects.points[:, 0] + 1j * objects.points[:, 1]
        turned = np.angle(place / (points[:5, 0] + 1j * points[:5, 1]))
        np.testing.assert_allclose(np.exp(1j * turned[:3]), np.exp(1j * turned[0]), atol=1e-6)
        np.testing.assert_allclose(turned[3], turned[4], atol=1e-6)
        apart.add(round(float(turned[3] - turned[0]), 3))
    assert len(apart) > 5
    assert len(objects_of(scan, [2], 360.0, np.random.default_rng(0)).points) == 0


def images_of(sensor: Sensor, **changes: object) -> RangeImages:
    info = replace(SemanticKitti.info, sensor=sensor)
    values = {"height": 16, "width": 64, "rows": "inclination", "channels": ("range",)} | changes
    return RangeImages(info, RangeImageSettings(**values))  # type: ignore[arg-type]


def test_a_copied_object_shows_where_it_is_nearer_or_alone() -> None:
    """A wall all around at 10 m but for a hole; objects of class 1 at 5 m and 20 m."""
    azimuth = np.linspace(-np.pi, np.pi, 64, endpoint=False) + np.pi / 64
    wall = np.stack([10 * np.cos(azimuth), 10 * np.sin(azimuth), 0 * azimuth, 0 * azimuth], axis=1)
    wall[20:24] = np.nan
    scan = Scan("a", wall.astype(np.float32), np.zeros(64, np.uint8))
    donor = wall.copy()
    donor[:, :2] *= np.where(np.arange(64) < 32, 0.5, 2.0)[:, None]
    donor[20:24, :2] = 20 * np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)[20:24]
    donor[20:24, 2:] = 0
    other = Scan("b", donor.astype(np.float32), np.ones(64, np.uint8))
    images, rng = images_of(TURN), np.random.default_rng(0)
    objects = images.objects(other, [1], rng, STILL)
    sample = images.training_sample(scan, rng, STILL, 0.0, objects)
    mean, std = images.channel_statistics[0]
    row = sample["valid"].any(axis=1)
    assert row.sum() == 1
    depth, labels = sample["image"][0, row][0] * std + mean, sample["labels"][row][0]
    index = np.arange(64)[::-1]  # azimuth falls to the right
    near, hole = index < 32, (index >= 20) & (index < 24)
    assert np.array_equal(labels == 1, near | hole)
    expected = np.where(hole, 20, np.where(near, 5, 10))
    np.testing.assert_allclose(depth, expected, rtol=1e-5)


class Recording(SemanticKitti):
    """Tells of which scans labels were read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.told: set[str] = set()

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        if with_labels:
            self.told.add(scan_id)
        return super().read_scan(scan_id, with_labels)


COPYING = AugmentationSettings(instance_copy=("car", "traffic-sign"), range_interpolation=2)


def steps_of(
    source: SemanticKitti,
    augmentation: AugmentationSettings,
    steps: range = range(8),
    workers: int = 0,
    bad_scans: BadScans | None = None,
) -> list[list[dict[str, np.ndarray]]]:
    labelled, unlabelled = source.scan_ids("train")[:5], source.scan_ids("train")[5:]
    bad_scans = bad_scans or BadScans("fail", 20)
    scans = TrainingScans(source, images_of(TURN), augmentation, labelled, unlabelled, bad_scans)
    loader = training_loader(scans, StepSampler(labelled, unlabelled, 2, 3, steps), workers, False)
    return [
        [{name: field.numpy() for name, field in fields.items()} for fields in step]
        for step in read_steps(loader, bad_scans)
    ]


def same(one: list, other: list) -> bool:
    return all(
        np.array_equal(fields[name], others[name])
        for a, b in zip(one, other, strict=True)
        for fields, others in zip(a, b, strict=True)
        for name in fields
    )


def test_copies_come_from_labelled_scans_alone_and_change_labelled_scans_alone(
    tmp_path: Path,
) -> None:
    source = Recording(write_root(tmp_path))
    copying = AugmentationSettings(instance_copy=("car",))
    with_objects, without = (steps_of(source, a) for a in (copying, AugmentationSettings()))
    assert source.told == {*source.scan_ids("train")[:5]}
    for (labelled, unlabelled), (alone, others) in zip(with_objects, without, strict=True):
        assert same([[unlabelled]], [[others]])
        assert (labelled["labels"] == 0).sum() > (alone["labels"] == 0).sum()
        kept = alone["labels"] == labelled["labels"]
        assert (labelled["labels"][~kept] == 0).all()


def test_what_a_step_gets_depends_on_the_seed_and_the_step(tmp_path: Path) -> None:
    source = SemanticKitti(write_root(tmp_path))
    whole = steps_of(source, COPYING)
    assert same(steps_of(source, COPYING, range(3, 8)), whole[3:])
    assert same(steps_of(source, COPYING, workers=2), whole)


def test_a_bad_scan_gives_no_objects(tmp_path: Path) -> None:
    source = SemanticKitti(write_root(tmp_path))
    bad = source.scan_ids("train")[4]
    source.paths(bad)[1].write_bytes(b"1")
    with pytest.raises(DataError, match=r"\.label has 1 bytes"):
        steps_of(source, COPYING)
    skipped = BadScans("skip", 100)
    assert len(steps_of(source, COPYING, bad_scans=skipped)) == 8
    assert list(skipped.report()) == [bad]


def test_a_class_that_the_data_set_lacks_is_an_error(tmp_path: Path) -> None:
    wrong = AugmentationSettings(instance_copy=("cars",))
    with pytest.raises(
        ConfigError,
        match=r"unknown class in .*instance_copy: 'cars' \(did you mean 'car'\?\); known:",
    ):
        TrainingScans(SemanticKitti(tmp_path), images_of(TURN), wrong)


@pytest.mark.real_data
def test_a_real_scan_with_its_gaps_filled_and_objects_of_another(real_data: Path) -> None:
    """By scan order; nothing but poles comes from the other scan."""
    source = SemanticKitti(real_data / "semantickitti_mini")
    scan, donor = (source.read_scan(i) for i in source.scan_ids("train")[:2])
    pole = source.info.label_map.names.index("pole")
    images = RangeImages(source.info, RangeImageSettings(height=64, width=512))
    settings = STILL.model_copy(update={"rotate": True, "range_interpolation": 4})
    beams = beam_rows(scan.points, HDL_64E)
    whole = ProjectedScan(
        scan.points, scan.labels, project_points(scan.points, HDL_64E.resized(64, 512), beams)
    )
    gaps = gap_points(whole, project_points(scan.points, HDL_64E, beams))
    assert 0.02 < len(gaps.points) / len(scan.points) < 0.3
    assert gaps.labels is not None
    assert (gaps.labels != IGNORE).mean() > 0.8
    objects = images.objects(donor, [pole], np.random.default_rng(0), settings)
    assert len(objects.points) > 100
    samples = [
        images.training_sample(scan, np.random.default_rng(1), settings, 0.0, added)
        for added in (None, objects)
    ]
    one, other = (sample["labels"] for sample in samples)
    changed = one != other
    assert changed.sum() > 30
    assert (other[changed] == pole).all()
    same = ~changed & (one != pole)
    before, after = (sample["image"][:5, same] for sample in samples)  # without the steps
    assert np.array_equal(before, after)
