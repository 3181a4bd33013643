"""Crops: the columns of their window, and at least one labelled pixel wherever there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rangeseg.datasets.base import Scan
from rangeseg.datasets.batches import TrainingScans, read_steps, training_loader
from rangeseg.datasets.crops import crop, first_column, labelled_column
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.sampler import StepSampler
from rangeseg.geometry.augmentation import AugmentationSettings
from rangeseg.geometry.projection import Projection, project_points
from rangeseg.geometry.sensor import Sensor
from tests.datasets.own_scans import DESCRIPTION, raw_labels, turn, write_labels, write_points

TURN = Sensor("turn", beams=16, height=16, width=96, fov_up_deg=11, fov_down_deg=-21)
FRONT = replace(TURN, name="front", azimuth_left_deg=45, azimuth_right_deg=-45)
STILL = AugmentationSettings(rotate=False, flip=False, scale=0, jitter_std=0, drop=0)
WIDTH = 24


def one_label(sensor: Sensor, column: int) -> tuple[Projection, np.ndarray]:
    """A scan whose only labelled points are those of a column."""
    projection = project_points(turn()[0], sensor)
    return projection, np.where(projection.col == column, 0, IGNORE).astype(np.uint8)


@pytest.mark.parametrize("sensor", [TURN, FRONT], ids=lambda sensor: sensor.name)
def test_a_crop_shows_its_window_and_the_left_neighbour(sensor: Sensor) -> None:
    index = project_points(turn()[0], sensor)
    for window in np.linspace(0, 0.9999, 50):
        first = first_column(index, WIDTH, window)
        shown = crop(index, WIDTH, first).point_index
        assert shown.shape == (16, WIDTH + 1)
        for column in range(-1, WIDTH):
            place = first + column
            if sensor.full_turn or 0 <= place < 96:
                wanted = index.point_index[:, place % 96]
            else:
                assert place == -1  # nothing is left of the image, and no crop leaves it
                wanted = np.full(16, -1)
            np.testing.assert_array_equal(shown[:, column + 1], wanted)


def test_every_place_is_a_window() -> None:
    projection = project_points(turn()[0], TURN)
    windows = np.arange(9600) / 9600
    assert {first_column(projection, WIDTH, w) for w in windows} == set(range(96))
    front = project_points(turn()[0], FRONT)
    assert {first_column(front, WIDTH, w) for w in windows} == set(range(96 - WIDTH + 1))


@pytest.mark.parametrize("sensor", [TURN, FRONT], ids=lambda sensor: sensor.name)
@pytest.mark.parametrize("column", [1, 51, 95])
def test_a_crop_without_a_label_is_moved_to_one(sensor: Sensor, column: int) -> None:
    projection, labels = one_label(sensor, column)
    places = set()
    for first in range(96 if sensor.full_turn else 96 - WIDTH + 1):
        moved = labelled_column(projection, labels, WIDTH, first, np.random.default_rng(first))
        again = labelled_column(projection, labels, WIDTH, first, np.random.default_rng(first))
        assert moved == again
        assert (column - moved) % 96 < WIDTH
        if (column - first) % 96 < WIDTH:
            assert moved == first
        if not sensor.full_turn:
            assert 0 <= moved <= 96 - WIDTH
        places.add((column - moved) % 96)
    assert len(places) > (10 if column == 51 or sensor.full_turn else 0)


def test_without_any_label_a_crop_stays() -> None:
    projection, _ = one_label(TURN, 0)
    nothing = np.full(len(projection.row), IGNORE, dtype=np.uint8)
    assert labelled_column(projection, nothing, WIDTH, 7, np.random.default_rng(0)) == 7


def custom(root: Path, sensor: Sensor) -> Custom:
    description = {
        **DESCRIPTION,
        "sensor": {
            "beams": 16, "fov_up_deg": 11, "fov_down_deg": -21,
            "azimuth_left_deg": sensor.azimuth_left_deg,
            "azimuth_right_deg": sensor.azimuth_right_deg,
        },
    }  # fmt: skip
    return Custom(root, Description.model_validate(description))


def images_of(source: Custom, **changes: object) -> RangeImages:
    settings = {"height": 16, "width": 192, "crop_width": 32, **changes}
    return RangeImages(source.info, RangeImageSettings(**settings))  # type: ignore[arg-type]


def steps_of(
    scans: TrainingScans, propagated: list[str], steps: int, part: tuple[int, int] = (0, 1)
) -> Iterator[list[dict[str, torch.Tensor]]]:
    unlabelled = propagated if scans.propagated else []
    sampler = StepSampler(
        scans.labelled, unlabelled, 2, 0, range(steps), part, propagated=propagated, share=0.5
    )
    return read_steps(training_loader(scans, sampler, 0, False), scans.bad_scans)


def write(root: Path, kind: str) -> dict[str, np.ndarray]:
    """Scans with few labels; those of 02 are given theirs."""
    given = {}
    rng = np.random.default_rng(0)
    for frame in range(2):
        for sequence in ("01", "02"):
            points, _ = turn(frame)
            azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
            if kind == "front":
                points, azimuth = (x[np.abs(azimuth) < 45] for x in (points, azimuth))
            raw = raw_labels(points)
            known = np.abs(azimuth + 10) < (5 if kind == "front" else 30)
            if kind == "scribbles":
                known = rng.random(len(points)) < 0.004
            write_points(root, f"{sequence}/{frame:06d}", points)
            raw[~known] = 0
            if sequence == "01":
                write_labels(root, f"01/{frame:06d}", raw)
            else:
                given[f"02/{frame:06d}"] = np.where(raw > 0, raw // 9, IGNORE).astype(np.uint8)
    return given


@pytest.mark.parametrize(("kind", "steps"), [("sector", 300), ("front", 1000), ("scribbles", 300)])
def test_no_step_is_without_a_label(kind: str, steps: int, tmp_path: Path) -> None:
    given = write(tmp_path, kind)
    source = custom(tmp_path, FRONT if kind == "front" else TURN)
    scans = TrainingScans(
        source, images_of(source), AugmentationSettings(), ["01/000000", "01/000001"], list(given),
        propagated=given,
    )  # fmt: skip
    kept = []
    for labelled, unlabelled in steps_of(scans, list(given), steps):
        known = (labelled["labels"] != IGNORE) & labelled["valid"]
        assert known.flatten(1).any(dim=1).all()
        assert unlabelled.keys() == {"image", "valid"}
        kept.append(labelled)
    assert len(kept) == steps
    parts = [steps_of(scans, list(given), 20, (number, 2)) for number in (0, 1)]
    for whole, one, two in zip(kept[:20], *parts, strict=True):  # two processes see the same
        for name, field in whole.items():
            assert torch.equal(field, torch.cat([one[0][name], two[0][name]])), name


def test_a_moved_crop_of_a_turn_still_holds_the_rays_of_its_window(tmp_path: Path) -> None:
    """Mixing puts pixels of the scans of a step beside each other."""
    images = images_of(custom(tmp_path, TURN), channels=("x", "y", "range_step"))
    points, _ = turn()
    azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    sector = Scan("01/000000", points, np.where(np.abs(azimuth) < 20, 0, IGNORE).astype(np.uint8))
    anything = replace(sector, labels=None)
    settings = STILL.model_copy(update={"rotate": True})
    moved = 0
    for seed in range(20):
        samples = [
            images.training_sample(scan, np.random.default_rng(seed), settings, 0.3)
            for scan in (sector, anything)
        ]
        assert (samples[0]["labels"] == 0).any()
        both = samples[0]["valid"] & samples[1]["valid"]
        one, other = (sample["image"][0] + 1j * sample["image"][1] for sample in samples)
        difference = np.angle(one[both] / other[both])
        assert np.abs(difference).max() < 2.001 * np.pi / 192
        moved += not np.array_equal(samples[0]["image"], samples[1]["image"])
    assert 10 < moved < 20
