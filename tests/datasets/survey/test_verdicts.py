"""Verdicts on real scans: none on sound ones, and the right one on each kind of wrong ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.layout import Layout
from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.judge import judge_scan
from rangeseg.datasets.survey.verdicts.base import Verdict
from tests.datasets.survey import wrong_scans as wrong

pytestmark = pytest.mark.real_data

SHOWN = {
    "qt_binary_time": {"tilt"},  # mounted on a car's side, it looks down by 37 degrees
    "vlp16_binary_ring": {"dual_returns"},  # its field return_type says so
    "rellis/ouster": {"intensity_scale"},  # up to .0095
    "xt16_binary_xyz": {"no_intensity"},
    "pandar64_binary_xyz": {"no_intensity"},
}
"""What is true of real scans."""


@pytest.fixture(scope="module")
def scans(real_data: Path) -> dict[str, np.ndarray]:
    kitti = real_data / "semantickitti_mini" / "sequences" / "03" / "velodyne" / "000009.bin"
    panda = real_data / "pandaset_semkitti" / "sequences" / "01" / "velodyne" / "000000.bin"
    return {
        # Of the 35, the one whose beams are hardest to see.
        "kitti": wrong.read(kitti),
        "panda": wrong.read(panda),
        "nuscenes": wrong.nuscenes(real_data),
    }


def verdicts(points: np.ndarray, **more: object) -> dict[str, Verdict]:
    found = Evidence("00/000000", points, file_name="000000.bin", **more)  # type: ignore[arg-type]
    return {verdict.name: verdict for verdict in judge_scan(found)}


def test_sound_scans(real_data: Path) -> None:
    """No refusal, and no untrue sentence."""
    beams = {"kitti": 64, "panda": 64, "nuscenes": 32}
    for name, points in wrong.real_scans(real_data):
        intensity = "no_intensity" not in SHOWN.get(name, ())
        found = verdicts(
            points, beams=beams.get(name.partition("/")[0]), has_intensity=intensity,
            head=points.tobytes()[: 1 << 18],
        )  # fmt: skip
        assert set(found) == SHOWN.get(name, set()), name


def test_the_map_is_no_turn(real_data: Path) -> None:
    points = wrong.read(real_data / "formats" / "ouster_map.ply")
    found = verdicts(points, has_intensity=False)
    assert set(found) == {"merged", "no_intensity"}
    assert "155,000 points" in str(found["merged"])
    assert found["merged"].refused


REFUSED: list[tuple[str, wrong.Change, str]] = [
    ("scale", wrong.scaled(1000), "in millimetres, where metres are expected; state layout.scale="),
    ("scale", wrong.scaled(100), "layout.scale=0.01,"),
    ("scale", wrong.scaled(0.001), "layout.scale=1000,"),
    ("axes", wrong.camera, "the beams of 00/000000 turn about y, not about z: a camera's axes; "
     "state layout.axes=[z, -x, -y]"),
    ("upside_down", wrong.upside_down, "state layout.axes=[x, -y, -z]"),
    ("tilt", wrong.turned(pitch=30), "leans by 3"),
    ("tilt", wrong.turned(roll=-26), "layout.roll_deg=-2"),
    ("world", wrong.moved(5e5, 5.4e5, 120), "lies 735,9"),
    ("world", wrong.moved(24, 30, 4), "m from the origin"),
    ("merged", wrong.merged(1.0), "several scans in one file"),
    ("merged", wrong.merged(0.0), "has 10.0 points for each direction"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "said"), REFUSED)
@pytest.mark.parametrize("sensor", ["kitti", "nuscenes"])
def test_refused(
    sensor: str, name: str, change: wrong.Change, said: str, scans: dict[str, np.ndarray]
) -> None:
    found = verdicts(change(scans[sensor]))
    assert set(found) == {name}
    assert found[name].refused
    assert said in str(found[name])
    assert str(found[name]).endswith(f"or accept it: layout.accept=[{name}]")
    accepted = verdicts(change(scans[sensor]), layout=Layout(accept=(name,)))
    assert name not in accepted


@pytest.mark.parametrize("points", [8_000, 24_000, 60_000, 100_000])
def test_a_rosette_has_no_beams(points: int) -> None:
    found = verdicts(wrong.rosette(points))
    assert set(found) == {"no_beams"}
    assert "a rosette or a solid-state sensor" in str(found["no_beams"])


WARNED: list[tuple[str, wrong.Change, str]] = [
    ("small_tilt", wrong.turned(pitch=8), "degrees: a tilted sensor, or a slope; state"),
    ("front_view", wrong.front(90), "covers 90 degrees of azimuth: 75% of an image"),
    ("front_view", wrong.front(120), "azimuth_left_deg=60 azimuth_right_deg=-60"),
    ("dual_returns", wrong.dual, "% of the directions of 00/000000 have"),
    ("lost_echoes", wrong.dropped(0.18), "were dropped, as drivers do"),
    ("lost_echoes", wrong.dropped(0.4), "were dropped, as drivers do"),
]


@pytest.mark.parametrize(("name", "change", "said"), WARNED)
@pytest.mark.parametrize("sensor", ["kitti", "nuscenes", "panda"])
def test_warned_of(
    sensor: str, name: str, change: wrong.Change, said: str, scans: dict[str, np.ndarray]
) -> None:
    beams = 32 if sensor == "nuscenes" else 64
    found = verdicts(change(scans[sensor]), beams=beams)
    # A crop of nuScenes has a few rays without a point as well.
    assert found.keys() - {"lost_echoes"} == {name} - {"lost_echoes"}
    assert not any(verdict.refused for verdict in found.values())
    assert said in str(found[name])


@pytest.mark.parametrize("share", [0.18, 0.6])
def test_lost_echoes_are_no_refusal(share: float, scans: dict[str, np.ndarray]) -> None:
    for points in scans.values():
        assert not any(v.refused for v in verdicts(wrong.dropped(share)(points)).values())


def test_stated_tilt_is_level(scans: dict[str, np.ndarray]) -> None:
    """Points that were levelled as the verdict says are judged in the sensor's own axes."""
    tilted = wrong.turned(roll=12, pitch=27)(scans["kitti"])
    remedy = str(verdicts(tilted)["tilt"])
    roll, pitch = map(float, re.findall(r"_deg=(-?[0-9.]+[0-9])", remedy))
    layout = Layout(roll_deg=roll, pitch_deg=pitch)
    level = wrong.changed(tilted, tilted[:, :3] @ layout.rotation().T)
    assert verdicts(level, layout=layout) == {}


@pytest.mark.parametrize(
    ("dtype", "stated"),
    [
        ("<f8", "layout.dtype=float64,"), (">f4", "layout.byte_order=big,"),
        (">f8", "layout.dtype=float64 layout.byte_order=big"),
        ("<i2", "layout.dtype=int16 and layout.scale"), ("<i4", "layout.dtype=int32 and"),
        (">i2", "layout.dtype=int16 layout.byte_order=big"),
    ],
)  # fmt: skip
def test_number_types(dtype: str, stated: str, scans: dict[str, np.ndarray]) -> None:
    for points in scans.values():
        whole = "i" in dtype
        values = (points * [100, 100, 100, 255] if whole else points).astype(dtype)
        head = values.tobytes()[: 1 << 18]
        found = verdicts(points[:0], head=head)
        assert set(found) == {"number_type"}
        assert f"state {stated}" in str(found["number_type"])
        order = "big" if ">" in dtype else "little"
        layout = Layout.model_validate({"dtype": values.dtype.name, "byte_order": order})
        assert verdicts(points[:0], head=head, layout=layout) == {}


def test_bytes_that_are_no_numbers() -> None:
    head = np.random.default_rng(0).bytes(1 << 16)
    (found,) = verdicts(np.empty((0, 4), np.float32), head=head).values()
    assert "it holds other numbers, or something else; state layout.dtype" in str(found)


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        (lambda i: 0 * i + 0.5, "constant_intensity", "intensity of all points is 0.5"),
        (lambda i: 255 * i, "intensity_scale", "0 to 1 is expected; state the files' value"),
        (lambda i: i / 255, "intensity_scale", "99.9 % of the intensities are below 0.00"),
        (lambda i: -40 * i, "negative_intensity", "of the intensities are negative, down to -"),
    ],
)
def test_intensity(
    change: wrong.Change, name: str, said: str, scans: dict[str, np.ndarray]
) -> None:
    points = scans["nuscenes"].copy()
    points[:, 3] = change(points[:, 3])
    found = verdicts(points)
    assert set(found) == {name}
    assert said in str(found[name])
