"""Verdicts on label files, by their bytes alone and by where the labels are."""

from __future__ import annotations

import numpy as np
import pytest

from rangeseg.datasets.layout import Layout
from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.verdicts.base import Verdict
from rangeseg.datasets.survey.verdicts.labels import judge_classes, judge_labels
from tests.datasets.own_scans import turn

POINTS, _ = turn()
RNG = np.random.default_rng(0)
IDS = RNG.choice([0, 10, 40, 48, 50, 70, 252, 259], len(POINTS))
INSTANCES = IDS + (RNG.integers(0, 40, len(POINTS)) * (IDS == 10) << 16)
COLOURS = np.array([0, 0x804080, 0xF423E8, 0x464646, 0x6B8E23, 0x0000FF])


def judged(labels: np.ndarray, known: bool = False, **layout: object) -> dict[str, Verdict]:
    ids = frozenset(np.unique(labels.astype(np.int64) & 0xFFFF).tolist()) if known else None
    found = Evidence(
        "01/0", POINTS, layout=Layout.model_validate(layout), label_name="0.label",
        label_bytes=labels.tobytes(), known_ids=ids,
    )  # fmt: skip
    return {verdict.name: verdict for verdict in judge_labels(found)}


@pytest.mark.parametrize(
    "labels",
    [
        IDS.astype("<u4"), INSTANCES.astype("<u4"), (IDS * 200).astype("<u4"),
        np.zeros(len(POINTS), "<u4"), np.full(len(POINTS), 65535, "<u4"),
        (IDS + (RNG.integers(1, 99, len(POINTS)) << 16)).astype("<u4"),
    ],
)  # fmt: skip
def test_sound_labels(labels: np.ndarray) -> None:
    assert judged(labels) == {}
    assert judged(labels, known=True) == {}


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        (IDS.astype("<f4"), {"label_type": "float32"}),
        (IDS.astype("<f8"), {"label_type": "float64"}),
        (IDS.astype("<i8"), {"label_type": "int64"}),
        (IDS.astype(">u4"), {"byte_order": "big"}),
        (INSTANCES.astype(">u4"), {"byte_order": "big"}),
        (IDS.astype(">f4"), {"label_type": "float32", "byte_order": "big"}),
        (IDS.astype(">i8"), {"label_type": "int64", "byte_order": "big"}),
        (RNG.choice(COLOURS, len(POINTS)).astype("<u4"), {"label_type": "colour"}),
        ((RNG.choice(COLOURS, len(POINTS)) | 0xFF000000).astype("<u4"), {"label_type": "colour"}),
    ],
)
def test_wrong_types(labels: np.ndarray, settings: dict[str, str]) -> None:
    (found,) = judged(labels).values()
    assert (found.name, found.refused) == ("label_type", True)
    stated = " ".join(f"layout.{key}={value}" for key, value in settings.items())
    assert f"; state {stated}, or accept it: layout.accept=[label_type]" in str(found)
    assert judged(labels, **settings) == {}


def test_wrong_order_of_two_bytes() -> None:
    (found,) = judged(IDS.astype(">u2"), label_type="uint16").values()
    assert "state layout.byte_order=big" in str(found)
    assert judged(IDS.astype(">u2"), label_type="uint16", byte_order="big") == {}
    assert judged(IDS.astype("<u2"), label_type="uint16") == {}


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [("int32", -1), ("uint32", 65535), ("uint8", 255), ("uint16", 65535), ("int64", -1)],
)
def test_minus_one(dtype: str, raw: int) -> None:
    labels = np.where(IDS == 0, -1, IDS % 100).astype(np.int64).astype(dtype)
    (found,) = judged(labels, label_type=dtype).values()
    assert (found.name, found.refused) == ("labels_minus_one", False)
    assert f"name {raw} under ignored_ids" in str(found)
    assert judged(labels, known=raw > 0, label_type=dtype) == {} or raw < 0


def test_labels_in_a_sector() -> None:
    azimuth = np.degrees(np.arctan2(POINTS[:, 1], POINTS[:, 0]))

    def judged_mask(labelled: np.ndarray) -> list[Verdict]:
        return list(judge_labels(Evidence("01/0", POINTS, labelled=labelled)))

    (found,) = judged_mask(np.abs(azimuth) < 45)
    assert str(found).startswith("labels lie in 88 degrees of azimuth only, from 316")
    assert found.name == "label_sector"
    assert judged_mask(np.abs(azimuth) < 140) == []
    assert judged_mask(RNG.random(len(POINTS)) < 0.02) == []  # scribbles
    assert judged_mask(np.zeros(len(POINTS), bool)) == []
    front = POINTS[np.abs(azimuth) < 45]  # nothing more was seen
    assert list(judge_labels(Evidence("01/0", front, labelled=np.ones(len(front), bool)))) == []


def test_one_class() -> None:
    def scan(*classes: int) -> Evidence:
        labelled = np.ones(len(POINTS), bool)
        return Evidence("1", POINTS, labelled=labelled, classes=frozenset(classes))

    (found,) = judge_classes([scan(3), scan(3), Evidence("2", POINTS)])
    assert str(found).startswith("the labels of 2 scans name one class only")
    assert list(judge_classes([scan(3), scan(4)])) == []
    assert list(judge_classes([Evidence("2", POINTS)])) == []
