"""Samples: every field of a pixel from one point; batches: a function of seed and step."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.base import Scan
from rangeseg.datasets.batches import LoadedSample, collate
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings, class_frequencies
from rangeseg.datasets.sampler import StepSampler
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import DataError
from rangeseg.geometry.augmentation import AugmentationSettings
from tests.data_tools.kitti_layout import write_root


def make_scan(labelled: bool = True) -> Scan:
    """Random points whose intensity tells their label."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 19, 5000).astype(np.uint8)
    labels[::10] = IGNORE
    points = rng.normal(size=(5000, 4)) * [10, 10, 0.7, 0]
    points[:, 3] = labels / 255
    return Scan("00/000000", points.astype(np.float32), labels if labelled else None)


def make_images(**changes: object) -> RangeImages:
    settings = {"height": 16, "width": 128, "rows": "inclination"} | changes
    return RangeImages(SemanticKitti.info, RangeImageSettings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("crop_width", [None, 32])
def test_image_valid_and_labels_of_a_sample_fit_together(crop_width: int | None) -> None:
    images = make_images(crop_width=crop_width)
    rng = np.random.default_rng(1)
    sample = images.training_sample(make_scan(), rng, AugmentationSettings(), 0.9)
    assert sample["image"].shape == (8, 16, crop_width or 128)
    assert sample["valid"].shape == sample["labels"].shape == (16, crop_width or 128)
    mean, std = SemanticKitti.info.statistics["intensity"]
    told = np.rint((sample["image"][4] * std + mean) * 255)
    assert sample["valid"].sum() > 100
    assert np.array_equal(told[sample["valid"]], sample["labels"][sample["valid"]])
    assert (sample["labels"][~sample["valid"]] == IGNORE).all()
    assert not sample["image"][:, ~sample["valid"]].any()
    assert np.array_equal(sample["image"][5], sample["valid"])


STILL = AugmentationSettings(rotate=False, flip=False, scale=0, jitter_std=0, drop=0)


@pytest.mark.parametrize("window", [0.0, 0.3, 0.9])  # the last one wraps
def test_a_crop_holds_the_columns_of_its_window(window: float) -> None:
    rng = np.random.default_rng(0)
    whole = make_images().training_sample(make_scan(), rng, STILL, window)
    crop = make_images(crop_width=32).training_sample(make_scan(), rng, STILL, window)
    for name, field in whole.items():
        rolled = np.roll(field, -int(window * 128), axis=-1)
        assert np.array_equal(rolled[..., :32], crop[name]), name


def test_the_crops_of_a_step_hold_the_same_rays() -> None:
    """Else mixing them would put points beside each other that look into different directions."""
    images = make_images(crop_width=32, channels=("x", "y"))
    info = SemanticKitti.info.statistics
    rng = np.random.default_rng(0)
    windows = set()
    for step_keys in keys(range(6)):
        azimuths = []
        for key in step_keys:
            sample = images.training_sample(make_scan(), rng, AugmentationSettings(), key.window)
            mean, std = (np.array([info[c][i] for c in "xy"])[:, None, None] for i in (0, 1))
            x, y = sample["image"] * std + mean
            direction = np.where(sample["valid"], np.exp(1j * np.arctan2(y, x)), 0)
            azimuths.append(direction.sum(axis=0))
        windows.add(step_keys[0].window)
        for one in azimuths:
            seen = (one != 0) & (azimuths[0] != 0)
            assert seen.sum() > 20
            difference = np.angle(one[seen] / azimuths[0][seen])
            assert np.abs(difference).max() < 2 * np.pi / 128
    assert len(windows) == 6


def test_an_unlabelled_scan_has_no_labels() -> None:
    rng = np.random.default_rng(0)
    sample = make_images().training_sample(make_scan(labelled=False), rng, STILL, 0.0)
    assert set(sample) == {"image", "valid"}


def keys(steps: range, unlabelled: list[str] | None = None, seed: int = 0) -> list[list]:
    labelled = ["a", "b", "c"]
    others = [f"u{i}" for i in range(7)] if unlabelled is None else unlabelled
    return list(StepSampler(labelled, others, batch_size=2, seed=seed, steps=steps))


def test_a_resumed_sampler_goes_on_where_it_stopped() -> None:
    assert keys(range(30))[11:] == keys(range(11, 30))


def test_both_lists_cycle_evenly() -> None:
    batches = keys(range(21))  # 42 labelled and 42 unlabelled places
    counts = Counter(key.scan_id for batch in batches for key in batch)
    assert {counts[i] for i in "abc"} == {14}
    assert {counts[f"u{i}"] for i in range(7)} == {6}
    assert all([key.labelled for key in batch] == [True, True, False, False] for batch in batches)


def test_every_method_gets_the_same_labelled_scans() -> None:
    alone = keys(range(9), unlabelled=[])
    assert alone == [[k for k in batch if k.labelled] for batch in keys(range(9))]


def test_no_two_samples_share_a_stream_and_seeds_differ() -> None:
    seeds = [key.seed for batch in keys(range(20)) for key in batch]
    draws = {np.random.default_rng(seed).integers(1 << 62) for seed in seeds}
    assert len(draws) == len(seeds) == 80
    assert [k.scan_id for b in keys(range(9)) for k in b] != [
        k.scan_id for b in keys(range(9), seed=1) for k in b
    ]


def test_collate_keeps_the_kinds_apart_and_passes_an_error_on() -> None:
    rng = np.random.default_rng(0)
    images = make_images()
    samples = [
        LoadedSample(images.training_sample(make_scan(k), rng, STILL, 0.0), [])
        for k in (True, False, False)
    ]
    labelled, unlabelled = collate(samples).fields  # type: ignore[union-attr]
    assert labelled["image"].shape == (1, 8, 16, 128)
    assert unlabelled["image"].shape == (2, 8, 16, 128)
    error = DataError("damaged")
    assert collate([samples[0], error]) is error


def test_class_frequencies_show_their_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = SemanticKitti(write_root(tmp_path))
    frequencies = class_frequencies(source, source.scan_ids("train"), most=7)
    names = source.info.label_map.names
    assert {name: f for name, f in zip(names, frequencies, strict=True) if f} == {
        "car": 0.5, "road": 0.25, "traffic-sign": 0.25,
    }  # fmt: skip
    assert "counting classes: 7/7 scan" in capsys.readouterr().err


def test_classes_without_a_labelled_point_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = SemanticKitti(write_root(tmp_path))
    class_frequencies(source, source.scan_ids("train")[:4])
    (record,) = caplog.records
    assert "none of the 4 labelled scans" in record.getMessage()
    names = set(source.info.label_map.names) - {"car", "road", "traffic-sign"}
    said = record.getMessage().partition("a point of ")[2].partition(": the network")[0]
    assert set(said.split(", ")) == names
