"""Scribbles: what is kept of full labels, and the data set that is trained on them.

There is no published scribble at hand: all of these are drawn by rangeseg from full labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.scribbles import draw_scribbles
from rangeseg.datasets.semantic_kitti import ScribbleKitti, SemanticKitti
from rangeseg.errors import DataError
from tests.data_tools.kitti_layout import write_root

CAR, MOVING_CAR, BUILDING, TERRAIN, POLE = 10, 252, 50, 72, 80
ROAD, PARKING, LANE_MARKING = 40, 44, 60
UNLABELLED, OTHER_OBJECT = 0, 99


def box(
    rng: np.random.Generator, count: int, centre: tuple[float, ...], size: tuple[float, ...]
) -> np.ndarray:
    """Points (count, 4) spread evenly in a box."""
    places = np.asarray(centre) + (rng.random((count, 3)) - 0.5) * np.asarray(size)
    return np.column_stack([places, rng.random(count)]).astype(np.float32)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, raw labels, and the number of the thing that each point belongs to."""
    rng = np.random.default_rng(1)
    things = [
        (ROAD, box(rng, 20000, (0, 0, -1.7), (40, 8, 0.02))),
        (BUILDING, box(rng, 3000, (0, 15, 1), (20, 0.1, 5))),
        (BUILDING, box(rng, 400, (0, -25, 1), (8, 0.1, 5))),
        (CAR | 1 << 16, box(rng, 500, (8, 0, -1), (4, 2, 1.5))),
        (CAR | 2 << 16, box(rng, 300, (12, 0, -1), (4, 2, 1.5))),  # bumper to bumper
        (MOVING_CAR | 2 << 16, box(rng, 200, (16, 0, -1), (4, 2, 1.5))),
        (POLE, box(rng, 600, (5, 6, 1), (0.1, 0.1, 5))),
        (POLE, box(rng, 20, (-9, 6, 1), (0.1, 0.1, 5))),
        (TERRAIN, box(rng, 3, (30, 30, -1.5), (1, 1, 0.1))),
        (OTHER_OBJECT | 7 << 16, box(rng, 300, (-10, 3, -1), (1, 1, 1))),
        (UNLABELLED, box(rng, 300, (0, 30, 1), (5, 5, 5))),
    ]
    points = np.concatenate([part for _, part in things])
    counts = [len(part) for _, part in things]
    raw = np.repeat(np.array([label for label, _ in things], dtype=np.uint32), counts)
    thing = np.repeat(np.arange(len(things)), counts)
    order = rng.permutation(len(points))
    return points[order], raw[order], thing[order]


def draw(points: np.ndarray, raw: np.ndarray, fraction: float = 0.08, seed: int = 0) -> np.ndarray:
    return draw_scribbles(points, raw, fraction, np.random.default_rng(seed))


class TestDrawing:
    points, raw, thing = scene()

    @pytest.mark.parametrize("seed", range(5))
    def test_everything_keeps_its_share_unchanged(self, seed: int) -> None:
        scribbles = draw(self.points, self.raw, seed=seed)
        assert (scribbles.dtype, scribbles.shape) == (np.uint32, self.raw.shape)
        kept = scribbles != 0
        np.testing.assert_array_equal(scribbles[kept], self.raw[kept])  # the instance too
        assert not np.isin(scribbles & 0xFFFF, [OTHER_OBJECT]).any()
        for number in range(9):
            own = self.thing == number
            assert kept[own].sum() == max(1, int(0.08 * own.sum())), number

    def test_the_whole_share(self) -> None:
        labelled = ~np.isin(self.raw & 0xFFFF, [UNLABELLED, OTHER_OBJECT])
        for fraction in (0.02, 0.08, 0.3):
            share = (draw(self.points, self.raw, fraction) != 0).sum() / labelled.sum()
            assert share == pytest.approx(fraction, abs=0.001)
        np.testing.assert_array_equal(draw(self.points, self.raw, 1.0) != 0, labelled)

    def test_a_pole_gets_a_stroke_along_its_height(self) -> None:
        points = box(np.random.default_rng(0), 1000, (5, 6, 1), (0.1, 0.1, 5))
        for seed in range(5):
            kept = draw(points, np.full(1000, POLE, np.uint32), seed=seed) != 0
            assert np.ptp(points[kept, 2]) > 1.5

    def test_a_wall_gets_a_line_and_no_specks(self) -> None:
        """Seen from above all of a wall lies on a stroke along it."""
        points = box(np.random.default_rng(0), 1800, (0, 15, 1), (20, 0.05, 5))
        for seed in range(5):
            kept = draw(points, np.full(1800, BUILDING, np.uint32), seed=seed) != 0
            across, along = np.sqrt(np.linalg.eigvalsh(np.cov(points[kept][:, [0, 2]].T)))
            assert across < 0.4
            assert along > 4 * across

    def test_large_components_get_more_strokes(self) -> None:
        """One stroke of 8 % of this square, however it lies, would touch about 25 of 100 cells."""
        points = box(np.random.default_rng(0), 40000, (0, 0, -1.7), (20, 20, 0.02))
        kept = points[draw(points, np.full(40000, ROAD, np.uint32)) != 0]
        assert len(np.unique((kept[:, :2] + 10) // 2, axis=0)) > 50

    @pytest.mark.parametrize(("radius", "things"), [(7, 5), (60, 1)])
    @pytest.mark.parametrize("direction", ["around", "away"])
    def test_far_points_are_joined_over_wider_gaps(
        self, radius: int, things: int, direction: str
    ) -> None:
        """Five points 2 m apart: near the sensor as many things, far from it one."""
        steps = np.arange(5) * 2.0
        angle = steps / radius if direction == "around" else np.zeros(5)
        distance = radius + steps if direction == "away" else np.full(5, radius)
        places = [distance * np.cos(angle), distance * np.sin(angle), np.zeros(5), np.zeros(5)]
        points = np.column_stack(places).astype(np.float32)
        assert (draw(points, np.full(5, TERRAIN, np.uint32)) != 0).sum() == things

    def test_raw_ids_of_one_class_are_one_component(self) -> None:
        """Lane markings are road: what is too little for a stroke of its own gets none."""
        points = box(np.random.default_rng(0), 5000, (0, 0, -1.7), (10, 4, 0.02))
        raw = np.where(np.arange(5000) < 4, LANE_MARKING, ROAD).astype(np.uint32)
        assert (draw(points, raw) != 0).sum() == 400

    def test_empty_returns_are_never_kept(self) -> None:
        points = np.zeros((30, 4), dtype=np.float32)
        points[:10, :3] = np.nan
        points[20:, 0] = 5.0
        kept = draw(points, np.full(30, ROAD, np.uint32), fraction=1.0) != 0
        assert kept.tolist() == [False] * 20 + [True] * 10
        assert not draw(points[:20], np.full(20, ROAD, np.uint32)).any()


class TestScribbleKitti:
    def test_training_reads_scribbles_and_all_others_labels(self, tmp_path: Path) -> None:
        source = ScribbleKitti(tmp_path)
        folders = {i: source.paths(i)[1].relative_to(tmp_path) for i in (
            "00/000001", "10/000001", "08/000001", "11/000001", "21/000001",
        )}  # fmt: skip
        assert {i: str(path) for i, path in folders.items()} == {
            "00/000001": "sequences/00/scribbles/000001.label",
            "10/000001": "sequences/10/scribbles/000001.label",
            "08/000001": "sequences/08/labels/000001.label",
            "11/000001": "sequences/11/labels/000001.label",
            "21/000001": "sequences/21/labels/000001.label",
        }
        assert source.paths("03/000002")[0] == SemanticKitti(tmp_path).paths("03/000002")[0]

    def test_a_missing_scribble_is_named(self, tmp_path: Path) -> None:
        source = ScribbleKitti(write_root(tmp_path))
        message = r"sequences/04/scribbles/000001\.label does not exist but 000001\.bin does"
        with pytest.raises(DataError, match=message):
            source.read_scan("04/000001")
        with pytest.raises(DataError, match=message):
            source.check_files("04/000001")
        assert source.read_scan("04/000001", with_labels=False).labels is None
        assert source.read_scan("08/000001").labels is not None


@pytest.mark.real_data
@pytest.mark.slow
def test_real_scans(real_data: Path) -> None:
    source = SemanticKitti(real_data / "semantickitti_mini")
    counts = np.zeros((2, IGNORE + 1), dtype=np.int64)
    for scan_id in source.scan_ids("train"):
        points = source.read_scan(scan_id).points
        raw = np.fromfile(source.paths(scan_id)[1], dtype=np.uint32)
        scribbles = draw(points, raw)
        kept = scribbles != 0
        np.testing.assert_array_equal(scribbles[kept], raw[kept])
        labels = source.info.label_map.to_train(raw)
        full, drawn = (np.bincount(x, minlength=IGNORE + 1) for x in (labels, labels[kept]))
        assert ((drawn > 0) == (full > 0))[:IGNORE].all(), scan_id
        assert kept.sum() / full[:IGNORE].sum() == pytest.approx(0.08, abs=0.002)
        counts += full, drawn
    frequent = counts[0, :IGNORE] > 1000
    share = counts[1, :IGNORE][frequent] / counts[0, :IGNORE][frequent]
    assert 0.07 < share.min() < share.max() < 0.09
