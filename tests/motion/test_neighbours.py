"""Which labelled scans a scan takes labels from."""

import numpy as np
import pytest

from rangeseg.errors import ConfigError, DataError
from rangeseg.motion.neighbours import MOST_SOURCES, Reach, find_sources, parse_reach
from rangeseg.motion.poses import SequencePoses, check_poses
from tests.motion.test_pose_files import turned


def drive(name: str, frames: list[int], spacing: float = 2.0) -> SequencePoses:
    ids = {f"{name}/{n:06d}": n for n in frames}
    poses = {scan_id: turned(0.0, spacing * n, 0.0, 0.0) for scan_id, n in ids.items()}
    found = SequencePoses(name, "files", poses, ids, {i: 0.1 * n for i, n in ids.items()})
    check_poses(found)
    return found


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("10", Reach(10)),
        ("0", Reach(0)),
        ("15m", Reach(15, "m")),
        ("7.5 m", Reach(7.5, "m")),
        (".5s", Reach(0.5, "s")),
        ("4 frames", Reach(4)),
    ],
)
def test_parse_reach(text: str, reach: Reach) -> None:
    assert parse_reach(text) == reach
    assert parse_reach(str(reach)) == reach
    assert bool(reach) == (reach.amount > 0)


@pytest.mark.parametrize("text", ["", "far", "-1", "1.5", "10 km", "3 s m"])
def test_wrong_reach(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write frames \(10\), metres \(15m\) or seconds"):
        parse_reach(text)


def test_reach_counts_frame_numbers_and_not_places() -> None:
    """The mini set has frames 0, 4 and 9."""
    poses = {"00": drive("00", [0, 4, 9])}
    near = find_sources(poses, ["00/000000"], Reach(4))
    assert near == {"00/000004": ["00/000000"]}
    assert list(find_sources(poses, ["00/000000"], Reach(9))) == ["00/000004", "00/000009"]
    assert find_sources(poses, ["00/000000"], Reach(3)) == {}


@pytest.mark.parametrize("reach", [Reach(5), Reach(11, "m"), Reach(0.55, "s")])
def test_sources_are_the_nearest_of_the_same_sequence(reach: Reach) -> None:
    rng = np.random.default_rng(0)
    poses = {name: drive(name, list(range(60))) for name in ("00", "01")}
    labelled = [f"{name}/{n:06d}" for name in poses for n in rng.permutation(60)[:20]]
    found = find_sources(poses, labelled, reach)
    for name, sequence in poses.items():
        for scan_id, number in sequence.frames.items():
            apart = {i: abs(int(i[3:]) - number) for i in labelled if i.startswith(name)}
            expected = sorted(d for d in apart.values() if d <= 5)[:MOST_SOURCES]
            if scan_id in labelled:
                assert scan_id not in found
            else:
                assert [apart[i] for i in found.get(scan_id, [])] == expected


def test_no_label_crosses_a_jump() -> None:
    found = drive("00", list(range(8)))
    for n in range(4, 8):
        found.poses[f"00/{n:06d}"][0, 3] += 30
    check_poses(found)
    near = find_sources({"00": found}, ["00/000003"], Reach(3))
    assert list(near) == ["00/000000", "00/000001", "00/000002"]


def test_seconds_need_times() -> None:
    found = drive("00", [0, 1, 2])
    del found.times["00/000001"]
    with pytest.raises(DataError, match=r"the time of 00/000001 is not known: add times\.txt"):
        find_sources({"00": found}, ["00/000000"], Reach(1, "s"))
