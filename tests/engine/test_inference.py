"""The pipeline from scans to predictions: the same figures as one thread, and a clean end."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rangeseg.datasets.bad_scans import BadScans
from rangeseg.datasets.base import Scan
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.simulated import Simulated
from rangeseg.engine.evaluation import evaluate
from rangeseg.engine.inference import EvaluateSettings, Prediction, Predictor
from rangeseg.engine.torch_backend import TorchBackend
from rangeseg.errors import DataError
from rangeseg.geometry.backprojection import nearest_point, own_pixel
from rangeseg.geometry.knn import knn_vote
from rangeseg.models import ModelSettings, build_network
from tests.system.test_prefetch import running

CPU = torch.device("cpu")
CLASSES = Simulated.info.label_map.num_classes
SCANS = 7  # no multiple of the batch sizes


class Recorded(Simulated):
    """Knows which scans were asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        self.asked.append(scan_id)
        return super().read_scan(scan_id, with_labels)


@pytest.fixture
def source(simulated_root: Path) -> Recorded:
    return Recorded(simulated_root)


def predictor_of(
    source: Simulated,
    threads: int,
    batch_size: int,
    back_projection: str = "nearest_point",
    network: nn.Module | None = None,
) -> Predictor:
    images = RangeImages(source.info, RangeImageSettings(height=32, width=256))
    values = {"threads": threads, "batch_size": batch_size, "back_projection": back_projection}
    settings = EvaluateSettings.model_validate(values)
    if network is None:
        torch.manual_seed(0)
        network = build_network(ModelSettings(width=4), len(images.settings.channels), CLASSES)
    return Predictor(TorchBackend(network, CPU, "auto"), images, settings, CLASSES)


def ids_of(predictions: Iterator[Prediction]) -> Iterator[str]:
    return (prediction.scan.scan_id for prediction in predictions)


def serially(
    predictor: Predictor, source: Simulated, scan_ids: list[str]
) -> Iterator[list[np.ndarray]]:
    """Pixels, raw, points and confidence, with nothing that overlaps."""
    size = predictor.settings.batch_size
    for start in range(0, len(scan_ids), size):
        scans = [source.read_scan(i) for i in scan_ids[start : start + size]]
        projections = [predictor.images.project(scan)[0] for scan in scans]
        images = np.stack(
            [predictor.images.image(s.points, p) for s, p in zip(scans, projections, strict=True)]
        )
        batch = torch.from_numpy(images).to(memory_format=torch.channels_last)
        assert isinstance(predictor.backend, TorchBackend)
        with torch.inference_mode():
            logits = predictor.backend.network(batch)
            classes, confidence = logits.argmax(1), logits.softmax(1).amax(1)
        for i, (scan, projection) in enumerate(zip(scans, projections, strict=True)):
            pixels, sure = classes[i].to(torch.uint8).numpy(), confidence[i].numpy()
            raw, own = own_pixel(pixels, projection), own_pixel(sure, projection)
            if predictor.settings.back_projection == "knn_vote":
                yield [pixels, raw, knn_vote(pixels, projection, CLASSES), own]
            else:
                points = nearest_point(pixels, projection, scan.points, 5)
                yield [pixels, raw, points, nearest_point(sure, projection, scan.points, 5)]


@pytest.mark.parametrize("back_projection", ["nearest_point", "knn_vote"])
@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_same_bits_in_the_same_order(
    source: Recorded, threads: int, batch_size: int, back_projection: str
) -> None:
    predictor = predictor_of(source, threads, batch_size, back_projection)
    scan_ids = source.scan_ids("train")[:SCANS][::-1]
    expected = list(serially(predictor, source, scan_ids))
    found = list(predictor.predict(source, scan_ids, with_confidence=True))
    without = list(predictor.predict(source, scan_ids, with_labels=False))
    assert [p.scan.scan_id for p in found] == [p.scan.scan_id for p in without] == scan_ids
    for prediction, plain, arrays in zip(found, without, expected, strict=True):
        assert prediction.scan.labels is not None
        assert plain.scan.labels is plain.confidence is None
        for name, array in zip(("pixels", "raw", "points", "confidence"), arrays, strict=True):
            value = getattr(prediction, name)
            assert value.dtype == array.dtype
            if name == "confidence":
                np.testing.assert_allclose(value, array, rtol=1e-6)
                continue
            np.testing.assert_array_equal(value, array)
            np.testing.assert_array_equal(getattr(plain, name), array)
    assert len({p.points.tobytes() for p in found}) == SCANS
    assert not running()


@pytest.fixture
def damaged(simulated_root: Path, tmp_path: Path) -> Callable[[int], Recorded]:
    """A source whose scan of that place among the first is cut short."""

    def cut_short(place: int) -> Recorded:
        shutil.copytree(simulated_root, tmp_path, dirs_exist_ok=True)
        source = Recorded(tmp_path)
        path = source.paths(source.scan_ids("train")[place])[0]
        path.write_bytes(path.read_bytes()[:-5])
        return source

    return cut_short


class Watched(BadScans):
    """Notes who told it what."""

    def __init__(self, policy: str, scans: int) -> None:
        super().__init__(policy, scans)
        self.told: list[tuple[str, threading.Thread]] = []

    def add(self, scan_id: str, error: DataError) -> None:
        self.told.append((scan_id, threading.current_thread()))
        super().add(scan_id, error)


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("place", [0, 4])
def test_a_bad_scan_has_its_turn(
    damaged: Callable[[int], Recorded], threads: int, batch_size: int, place: int
) -> None:
    source = damaged(place)
    predictor = predictor_of(source, threads, batch_size)
    scan_ids = source.scan_ids("train")[:SCANS]
    found, told = [], Watched("fail", SCANS)
    with pytest.raises(DataError, match=r"velodyne/\d+.bin has \d+ bytes"):
        found.extend(ids_of(predictor.predict(source, scan_ids, bad_scans=told)))
    assert found == scan_ids[:place]
    assert told.told == [(scan_ids[place], threading.main_thread())]
    assert not running()

    found, told = [], Watched("skip", SCANS)
    for prediction in predictor.predict(source, scan_ids, bad_scans=told):
        assert (len(told.told) == 1) == (prediction.scan.scan_id > scan_ids[place])
        found.append(prediction.scan.scan_id)
    assert found == scan_ids[:place] + scan_ids[place + 1 :]
    assert told.told == [(scan_ids[place], threading.main_thread())]


class OneBeamTooMany(Simulated):
    """A source whose every scan names a beam that the sensor does not have."""

    info = replace(Simulated.info, sensor=replace(Simulated.info.sensor, row_rule="ring"))

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        scan = super().read_scan(scan_id, with_labels)
        return replace(scan, ring=np.full(len(scan.points), 32, dtype=np.int32))


@pytest.mark.parametrize("threads", [0, 3])
def test_a_scan_that_cannot_be_projected_is_named_and_can_be_skipped(
    threads: int, simulated_root: Path
) -> None:
    source = OneBeamTooMany(simulated_root)
    predictor = predictor_of(source, threads, 1)
    first = source.scan_ids("train")[:1]
    message = f"scan {first[0]}: sensor simulated-32 has beams 0 to 31, but the scan names 32 to 32"
    with pytest.raises(DataError, match=message):
        list(predictor.predict(source, first))
    bad_scans = BadScans("skip", 200)
    assert not list(predictor.predict(source, first, bad_scans=bad_scans))
    assert message in bad_scans.skipped[first[0]]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_closed_early_it_leaves_nothing_behind(source: Recorded, batch_size: int) -> None:
    scan_ids = source.scan_ids("train")
    predictions = predictor_of(source, 3, batch_size).predict(source, scan_ids)
    assert not source.asked  # nothing begins before it is asked for
    assert next(predictions).scan.scan_id == scan_ids[0]
    assert running()
    predictions.close()
    assert not running()
    # Two batches in or through the network, one more and a scan for each thread being read.
    assert len(source.asked) <= 3 * batch_size + 3
    assert source.asked[0] == scan_ids[0]


def test_an_error_in_the_consumer_ends_the_threads(
    source: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr("rangeseg.engine.evaluation.to_image", fail)
    with pytest.raises(KeyboardInterrupt) as stopped:
        evaluate(predictor_of(source, 2, 1), source, "val")
    assert not running(), stopped  # although its traceback still holds the iterator


class Failing(nn.Module):
    """Fails at its third batch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("out of memory")
        return image[:, :1].repeat(1, CLASSES, 1, 1)


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_error_in_the_network(source: Recorded, threads: int, batch_size: int) -> None:
    predictor = predictor_of(source, threads, batch_size, network=Failing())
    scan_ids = source.scan_ids("train")[:SCANS]
    found: list[str] = []
    with pytest.raises(RuntimeError, match="out of memory"):
        found.extend(ids_of(predictor.predict(source, scan_ids)))
    assert found == scan_ids[: 2 * batch_size]
    assert not running()


def test_evaluations_agree_and_say_how_fast_they_were(source: Recorded) -> None:
    results = [evaluate(predictor_of(source, n, 2), source, "val") for n in (0, 3)]
    for result in results:
        assert result["scans_per_second"] > 0
        assert result["scans"] == 3
        del result["scans_per_second"], result["seconds"]
    assert results[0] == results[1]
