"""Which row rules files allow: made-up turns in every order, and the real scans."""

import numpy as np
import pytest

from rangeseg.datasets.base import Scan
from rangeseg.datasets.survey.row_rules import RowRules, count_clusters, find_ring, inclinations
from tests.datasets.own_scans import BEAMS, FIRINGS, FOV_DOWN, FOV_UP, turn


def rules(*scans: Scan, beams: int | None = None) -> RowRules:
    collected = RowRules(beams)
    for scan in scans:
        collected.add(scan)
    return collected


def beams_of(collected: RowRules) -> dict[str, int | None]:
    return {finding.rule: finding.beams for finding in collected.findings()}


def note(collected: RowRules, rule: str) -> str:
    return next(finding.note for finding in collected.findings() if finding.rule == rule)


def scans(order: str = "firings", with_ring: bool = False, count: int = 3) -> list[Scan]:
    turns = [turn(seed, order) for seed in range(count)]
    return [
        Scan(f"01/{i}", points, ring=beam if with_ring else None)
        for i, (points, beam) in enumerate(turns)
    ]


def test_firing_after_firing() -> None:
    found = rules(*scans("firings", with_ring=True))
    assert beams_of(found) == {
        "file_order": BEAMS, "ring": BEAMS, "scan_order": None, "inclination": BEAMS,
    }  # fmt: skip
    assert [f.rule for f in found.findings()] == ["file_order", "ring", "scan_order", "inclination"]
    assert not found.ring_rises


def test_beam_after_beam() -> None:
    found = rules(*scans("beams"))
    assert beams_of(found) == {
        "file_order": None, "ring": None, "scan_order": BEAMS, "inclination": BEAMS,
    }  # fmt: skip
    assert note(found, "ring") == "no column names the beam"


def test_the_lowest_beam_first_is_no_scan_order() -> None:
    points, _ = turn(order="beams")
    upward = points.reshape(BEAMS, FIRINGS, 4)[::-1].reshape(-1, 4)
    assert beams_of(rules(Scan("01/0", upward)))["scan_order"] is None


def test_no_order_at_all() -> None:
    points, _ = turn()
    shuffled = [Scan("01/0", np.random.default_rng(s).permutation(points)) for s in range(2)]
    found = rules(*shuffled)
    assert beams_of(found) == {
        "file_order": None, "ring": None, "scan_order": None, "inclination": BEAMS,
    }  # fmt: skip
    # 15: the lowest beam meets the floor nearer than is counted.
    assert note(found, "inclination").startswith("an estimate: about 15 clusters")
    assert beams_of(rules(*shuffled, beams=20))["inclination"] == 20
    assert note(rules(*shuffled, beams=20), "inclination").startswith("as described; about 15 clu")


def test_a_rule_holds_in_every_scan_or_not_at_all() -> None:
    whole, short = scans("beams", count=2)
    short = Scan(short.scan_id, short.points[: -2 * FIRINGS])  # two beams saw nothing
    found = rules(whole, short)
    assert beams_of(found)["scan_order"] is None
    assert "shows 14 to 16 beams in different scans" in note(found, "scan_order")
    whole, short = scans("firings", count=2)
    short = Scan(short.scan_id, np.delete(short.points, 100, axis=0))  # a lost echo left out
    assert beams_of(rules(whole, short))["file_order"] is None
    empty = Scan("01/9", np.zeros_like(whole.points))  # tells nothing, and spoils nothing
    assert beams_of(rules(whole, empty))["file_order"] == BEAMS


def test_a_ring_that_counts_upward_and_one_that_is_none() -> None:
    points, beam = turn()
    found = rules(Scan("01/0", points, ring=BEAMS - 1 - beam))
    assert found.ring_rises
    assert beams_of(found)["ring"] == BEAMS
    assert note(found, "ring") == "0 is the lowest beam"
    rng = np.random.default_rng(0)
    found = rules(Scan("01/0", points, ring=rng.permutation(beam)))
    assert beams_of(found)["ring"] is None
    assert "does not go with the inclination" in note(found, "ring")


def test_lasers_that_fire_in_turn_are_no_rows() -> None:
    """As a VLP-16 numbers and lists them: -15, 1, -13, 3 degrees, and so on."""
    points, _ = turn()
    half = BEAMS // 2
    in_turn = [place for low in range(half) for place in (low, low + half)]
    points = points.reshape(FIRINGS, BEAMS, 4)[:, in_turn].reshape(-1, 4)
    number = np.tile(np.arange(BEAMS, dtype=np.int32), FIRINGS)
    found = rules(Scan("01/0", points, ring=number))
    assert beams_of(found) == {
        "file_order": None, "ring": None, "scan_order": None, "inclination": BEAMS,
    }  # fmt: skip
    assert note(found, "ring") == "the beams of that column do not fall or rise one by one"
    assert find_ring(np.column_stack([points, number])) is None


def test_nothing_is_known_of_nothing() -> None:
    found = rules(Scan("01/0", np.zeros((64, 4), dtype=np.float32)))
    assert beams_of(found) | {"inclination": None} == dict.fromkeys(beams_of(found))


def test_find_ring() -> None:
    points, beam = turn()
    time, label = np.linspace(0, 0.1, len(beam)), np.full(len(beam), 3.0)
    values = np.stack([*points.T, time, label, beam], axis=1).astype(np.float32)
    assert find_ring(values) == 6
    assert find_ring(values[:, :6]) is None
    assert find_ring(values[:, :4]) is None
    values[::7] = np.nan  # lost echoes have no ring, and need none
    assert find_ring(values) == 6
    values[1, 6] = 0.5
    assert find_ring(values) is None


def test_inclinations_against_trigonometry() -> None:
    points, beam = turn()
    points[3], points[4, 2] = 0.0, np.nan
    inclination, depth = inclinations(points)
    true = np.linspace(FOV_UP, FOV_DOWN, BEAMS)[beam]
    real = (np.arange(len(beam)) != 3) & (np.arange(len(beam)) != 4)
    np.testing.assert_allclose(inclination[real], true[real], atol=1e-4)
    np.testing.assert_allclose(depth[real], np.linalg.norm(points[real, :3], axis=1), rtol=1e-6)
    assert (depth[~real] == 0).all()
    assert (inclination[~real] == 0).all()


@pytest.mark.parametrize("beams", [8, 32, 64, 128])
def test_clusters_of_noisy_beams(beams: int) -> None:
    rng = np.random.default_rng(0)
    angles = np.repeat(np.linspace(15, -25, beams), 500)
    assert count_clusters(angles + rng.normal(0, 0.02, len(angles))) == beams
    assert count_clusters(np.zeros(0)) == 0


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("files", "columns", "beams"),
    [
        (
            "semantickitti_mini/sequences/0*/velodyne/000004.bin", 4,
            {"file_order": None, "ring": None, "scan_order": 64, "inclination": 64},
        ),
        (
            "pandaset_semkitti/sequences/*/velodyne/*.bin", 4,
            {"file_order": None, "ring": None, "scan_order": None, "inclination": 64},
        ),
        (
            "nuscenes_demo_sweep/*.bin", 5,
            {"file_order": 32, "ring": 32, "scan_order": None, "inclination": 32},
        ),
        (
            "rellis3d_example/000104.bin", 4,
            {"file_order": 64, "ring": None, "scan_order": None, "inclination": 64},
        ),
    ],
)  # fmt: skip
def test_real_scans(real_data, files: str, columns: int, beams: dict) -> None:
    collected = RowRules()
    for path in sorted(real_data.glob(files)):
        values = np.fromfile(path, dtype=np.float32).reshape(-1, columns)
        ring = values[:, 4].astype(np.int32) if columns > 4 else None
        collected.add(Scan(path.stem, np.ascontiguousarray(values[:, :4]), ring=ring))
    assert beams_of(collected) == beams
    assert collected.ring_rises == (columns > 4)
