"""One call in Python: clouds of all sorts in, labels in the data set's raw ids out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rangeseg
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.simulated import Simulated
from rangeseg.deploy.segmenter import Segmenter
from rangeseg.engine.inference import PixelClasses, Predictor
from rangeseg.errors import DataError


@pytest.fixture(scope="module")
def source(simulated_root: Path) -> Simulated:
    return Simulated(simulated_root)


@pytest.fixture(scope="module")
def clouds(source: Simulated) -> list[np.ndarray]:
    return [source.read_scan(i, with_labels=False).points for i in source.scan_ids("test")]


@pytest.fixture(scope="module", params=["run", "file"])
def segmenter(request: pytest.FixtureRequest, trained_run: Path, exported: Path) -> Segmenter:
    return rangeseg.load(trained_run if request.param == "run" else exported, threads=1)


def test_its_labels_are_those_of_the_predictor(
    segmenter: Segmenter, source: Simulated, clouds: list[np.ndarray]
) -> None:
    predictions = segmenter.predictor.predict(source, source.scan_ids("test"), False, True)
    for cloud, expected in zip(clouds, predictions, strict=True):
        labels, probabilities = segmenter.predict(cloud, confidence=True)
        np.testing.assert_array_equal(labels, source.encode_labels(expected.points))
        assert labels.dtype == np.uint32
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities, expected.confidence, atol=1e-5)
        np.testing.assert_array_equal(segmenter.predict(cloud), labels)
        assert set(labels.tolist()) <= segmenter.classes.keys()


def test_what_it_knows(segmenter: Segmenter, source: Simulated) -> None:
    label_map = source.info.label_map
    assert segmenter.classes[40] == "road"
    assert segmenter.colours[40] == (255, 0, 255)
    assert list(segmenter.classes) == label_map.to_raw(np.arange(19, dtype=np.uint8)).tolist()
    assert list(segmenter.colours) == list(segmenter.classes)
    assert (segmenter.sensor.beams, segmenter.sensor.width) == (32, 256)


def test_clouds_of_all_sorts(segmenter: Segmenter, clouds: list[np.ndarray]) -> None:
    cloud = clouds[0]
    expected = segmenter.predict(cloud)
    wider = np.column_stack([cloud.astype(np.float64), np.full((len(cloud), 2), np.nan)])
    before = wider.copy()
    np.testing.assert_array_equal(segmenter.predict(wider), expected)
    np.testing.assert_array_equal(wider, before)  # the caller's own is not touched
    np.testing.assert_array_equal(segmenter.predict(np.asfortranarray(cloud)), expected)
    for count in (0, 1, 100):
        labels, probabilities = segmenter.predict(cloud[:count], confidence=True)
        assert labels.shape == probabilities.shape == (count,)
        assert labels.dtype == np.uint32
    gone = cloud.copy()
    gone[::7, :3], gone[1::7, 3], gone[2::7, 0] = np.nan, np.inf, 1e30
    labels, probabilities = segmenter.predict(gone, confidence=True)
    assert set(labels.tolist()) <= segmenter.classes.keys()
    assert (probabilities[::7] == 0).all()
    assert np.isfinite(probabilities).all()
    assert len(segmenter.predict(np.full((50, 4), np.nan))) == 50


def test_several_clouds_at_once(segmenter: Segmenter, clouds: list[np.ndarray]) -> None:
    alone = [segmenter.predict(cloud) for cloud in clouds]
    found = segmenter.predict([*clouds, clouds[0][:0]])
    assert len(found) == len(clouds) + 1
    for labels, expected in zip(found, [*alone, alone[0][:0]], strict=True):
        np.testing.assert_array_equal(labels, expected)
    pairs = segmenter.predict(clouds[:1], confidence=True)
    np.testing.assert_array_equal(pairs[0][0], alone[0])
    assert segmenter.predict([]) == []
    with ThreadPoolExecutor(4) as pool:
        for labels, expected in zip(pool.map(segmenter.predict, clouds), alone, strict=True):
            np.testing.assert_array_equal(labels, expected)


def test_what_is_no_cloud(segmenter: Segmenter, clouds: list[np.ndarray]) -> None:
    cloud = clouds[0]
    with pytest.raises(DataError, match="has 3 columns, but this network reads range, x, y, z, i"):
        segmenter.predict(cloud[:, :3])
    for wrong in (cloud[0], cloud[:, :2], cloud.astype(str), cloud[None], cloud > 0):
        with pytest.raises(DataError, match=r"of shape .*: give numbers \(N, 4 or more\), x, y"):
            segmenter.predict(wrong)
    with pytest.raises(DataError, match="cloud 1 has 3 columns"):
        segmenter.predict([cloud, cloud[:, :3]])


class ByDepth:
    """A network of two classes, near and far, by the first channel."""

    name = device = "test"

    def classify(self, images: list[np.ndarray], with_confidence: bool) -> list[PixelClasses]:
        return [PixelClasses((image[0] > 0).astype(np.uint8), None) for image in images]


@pytest.fixture
def by_ring(exported: Path) -> Callable[..., Segmenter]:
    """A network without intensity, of a sensor whose files name the beams."""
    metadata = rangeseg.load(exported).metadata

    def make(ring_zero: str) -> Segmenter:
        changed = metadata.model_copy(
            update={
                "channels": ("range", "valid"),
                "sensor": replace(metadata.sensor, row_rule="ring"),
                "layout": Layout.model_validate({"ring_zero": ring_zero}),
            }
        )
        predictor = Predictor(ByDepth(), changed.images(), changed.evaluate, 19)
        return Segmenter(changed, predictor)

    return make


def test_without_intensity_and_with_rings(by_ring: Callable[..., Segmenter]) -> None:
    cloud = np.array([[30.0, 0, 0], [0, 2, 0], [0, 0, 0]])
    highest, lowest = by_ring("highest"), by_ring("lowest")
    expected = [11, 10, 10]  # far, near
    np.testing.assert_array_equal(highest.predict(cloud)[:2], expected[:2])
    rows = {}
    for name, segmenter in (("highest", highest), ("lowest", lowest)):
        scan = segmenter._scan("it", cloud, np.array([0, 1, 31]))
        assert scan.ring is not None
        rows[name] = scan.ring.tolist()
        ring = np.array([0, 1, 31])
        np.testing.assert_array_equal(segmenter.predict(cloud, ring=ring)[:2], expected[:2])
        assert len(segmenter.predict([cloud, cloud], ring=[ring, None])) == 2
    assert rows == {"highest": [0, 1, 31], "lowest": [31, 30, 0]}
    with pytest.raises(DataError, match="a ring of shape \\(3,\\), 0 to 32: give one beam for ea"):
        highest.predict(cloud, ring=np.array([0, 1, 32]))
    with pytest.raises(DataError, match=r"a ring of shape \(2,\), 0 to 1"):
        highest.predict(cloud, ring=np.array([0, 1]))
    with pytest.raises(DataError, match="2 clouds, but 1 rings"):
        highest.predict([cloud, cloud], ring=[None])
    assert IGNORE not in highest.classes
