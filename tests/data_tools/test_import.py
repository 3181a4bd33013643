"""rangeseg-data import: bags of all kinds and files, into a folder that stats and training take."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml

from data_tools.cli import main
from rangeseg.cli import main as rangeseg
from rangeseg.datasets.custom import Custom
from rangeseg.datasets.formats import find_roles, read_fields
from rangeseg.datasets.layout import Layout, Role
from rangeseg.runs.config import load_config
from tests.datasets.importing.recordings import (
    BASE_TO_LIDAR,
    CLOUD,
    CONTAINERS,
    POINTS,
    START_NS,
    Sent,
    Types,
    clouds,
    motion,
    scan,
    vehicle,
    write_bag,
)

Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *words: object) -> tuple[int, str, str]:
    code = main(["import", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def points(sequence: Path, number: int, columns: int = 6) -> np.ndarray:
    return np.fromfile(sequence / f"velodyne/{number:06d}.bin", "<f4").reshape(-1, columns)


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Container -> a bag of 8 scans; ROS 1 and MCAP with odometry, SQLite with tf."""
    found = {}
    for container in CONTAINERS:
        types = Types(container == "ros1")
        by = "tf" if container == "sqlite" else "odometry"
        sent = [*clouds(types, 8), *motion(types, 1.0, by)]
        found[container] = write_bag(tmp_path_factory.mktemp(container), container, types, sent)
    return found


@pytest.mark.parametrize("container", CONTAINERS)
def test_points_ring_times_and_poses(
    container: str, bags: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    root = tmp_path / "mine"
    code, out, err = run(capsys, bags[container], "--out", root)
    assert code == 0, err
    sequence = root / "sequences/drive"
    assert f"{sequence}: 8 scans of /points (sensor_msgs/PointCloud2, 8 messages)\n" in out
    assert "  columns: x y z intensity ring time\n" in out
    assert re.search(r"  poses: 8 of 8 scans, from /(odom|tf): velodyne in odom\n", out)
    assert "importing drive: 8/8 messages" in err
    for number in range(8):
        sent, written = scan(number), points(sequence, number)
        for column, name in enumerate(sent.dtype.names or ()):
            np.testing.assert_array_equal(written[:, column], sent[name].astype("f4"))
    times = [float(line) for line in (sequence / "times.txt").read_text().splitlines()]
    np.testing.assert_allclose(times, START_NS / 1e9 + 0.03 + 0.1 * np.arange(8), atol=1e-6)
    rows = np.loadtxt(sequence / "poses.txt").reshape(-1, 3, 4)
    expected = np.array([vehicle(0.03 + 0.1 * i) @ BASE_TO_LIDAR for i in range(8)])
    expected = np.linalg.inv(expected[0]) @ expected
    np.testing.assert_allclose(rows, expected[:, :3], atol=1e-3)
    assert not list(root.rglob("*.partial")) + list(root.rglob(".lock"))


def described(bags: dict[str, Path], folder: Path, capsys: Capture) -> tuple[Path, Path]:
    """Two imported bags with labels; their folder, and the configuration that stats prints."""
    root, config = folder / "my scans", folder / "mine.yaml"
    second = folder / "second drive.bag"
    second.symlink_to(bags["ros1"])
    code, out, _ = run(capsys, bags["sqlite"], second, "--out", root)
    assert code == 0
    program, *words = shlex.split(re.findall("next: (.*) >", out)[0])
    assert program == "rangeseg-data"
    assert words[-3:] == ["columns=6", "ring_column=4", "time_column=5"]
    for path in root.glob("sequences/*/velodyne/*.bin"):
        label = path.parents[1] / "labels" / f"{path.stem}.label"
        label.parent.mkdir(exist_ok=True)
        z = np.fromfile(path, "<f4").reshape(-1, 6)[:, 2]
        np.where(z < -1.5, 1, 2).astype("<u4").tofile(label)
    assert main(words) == 0
    config.write_text(capsys.readouterr().out)
    return root, config


def test_the_next_command(bags: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    """What is printed describes the folder: ring, times and poses are found."""
    root, config = described(bags, tmp_path, capsys)
    values = yaml.safe_load(config.read_text())["dataset"]["description"]
    assert values["sensor"]["rows"] in ("ring", "file_order")
    assert values["sensor"]["beams"] == 16
    assert values["layout"]["ring_zero"] == "lowest"
    description = load_config(config).dataset.description
    assert description is not None
    source = Custom(root, description)
    for sequence in ("drive", "second_drive"):
        assert len(source.poses(sequence)) == len(source.times(sequence)) == 8
    ring = source.read_scan("drive/000003").ring
    assert ring is not None
    np.testing.assert_array_equal(ring, 15 - scan(3)["ring"].astype(int))  # 0 is the highest now


@pytest.mark.slow
def test_a_training(bags: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    _, config = described(bags, tmp_path, capsys)
    settings = ["model.width=4", "range_image.crop_width=64", "train.steps=2", "train.batch_size=2"]
    train = ["train", str(config), "--method", "cutmix_seg", "--labels", "50%"]
    train += [word for s in settings for word in ("--set", s)]
    assert rangeseg([*train, "--out", str(tmp_path / "run")]) == 0


def test_each_third_scan_in_the_order_of_stamps(tmp_path: Path, capsys: Capture) -> None:
    """The bag has two scans in the wrong order, one without a point and one whose stamp is 0."""
    types = Types(ros1=False)
    sent = clouds(types, 7)
    sent[2], sent[4] = (
        sent[4]._replace(received=sent[2].received), sent[2]._replace(received=sent[4].received),
    )  # fmt: skip
    sent[3] = sent[3]._replace(content=types.cloud(START_NS + 330_000_000, scan(3)[:0]))
    sent[6] = sent[6]._replace(content=types.cloud(0, scan(6)))
    bag = write_bag(tmp_path, "mcap", types, sent)
    code, out, _ = run(capsys, bag, "--out", tmp_path / "all")
    assert code == 0
    sequence = tmp_path / "all/sequences/drive"
    written = [points(sequence, number)[:, 0] for number in range(6)]
    for x, number in zip(written, (0, 1, 2, 4, 5, 6), strict=True):
        np.testing.assert_array_equal(x, scan(number)["x"])
    assert "left out: 1 messages without a point" in out
    assert "poses: none: there is no odometry and no /tf" in out
    assert (sequence / "times.txt").read_text().splitlines()[-1] == "1673400471.635000000"

    code, out, _ = run(capsys, bag, "--out", tmp_path / "third", "--every", 3)
    assert code == 0
    written = [points(tmp_path / "third/sequences/drive", number)[:, 0] for number in range(2)]
    np.testing.assert_array_equal(written[1], scan(6)["x"])
    assert "2 scans of" in out


def test_a_call_that_is_repeated(bags: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    root, bag = tmp_path / "mine", bags["mcap"]
    run(capsys, bag, "--out", root)
    frame = root / "sequences/drive/velodyne/000002.bin"
    before = frame.stat().st_mtime_ns
    code, out, _ = run(capsys, bag, "--out", root)
    assert code == 0
    assert "drive: was complete already\nnext: rangeseg-data stats custom" in out
    assert frame.stat().st_mtime_ns == before
    for words, message in [
        ((bag, "--every", 2), "sequences/drive holds another import (every 1, not 2)"),
        ((bags["sqlite"],), "holds another import (source "),
        ((bag, "--layout", "fields=intensity:time"), "holds another import (columns "),
    ]:
        code, _, err = run(capsys, *words, "--out", root)
        assert (code, err.count("\n")) == (2, 1)
        assert message in err
        assert "choose another --out" in err
    own = root / "sequences/drive/rangeseg_import.json"
    own.unlink()
    code, _, err = run(capsys, bag, "--out", root)
    assert code == 2
    assert "drive exists and was not imported" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_and_completed(
    number: int, bags: dict[str, Path], tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The signal comes while the fourth scan is written."""
    root, written = tmp_path / "mine", []

    def kill(file: int) -> None:
        written.append(file)
        if len(written) == 5:  # the first is the stamp
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", kill)
        code, _, err = run(capsys, bags["sqlite"], "--out", root)
    assert (code, err.splitlines()[-1]) == (128 + number, "interrupted")
    sequence = root / "sequences/drive"
    there = {p: p.stat().st_mtime_ns for p in sequence.glob("velodyne/*")}
    assert sorted(p.name for p in there) == ["000000.bin", "000001.bin", "000002.bin"]
    assert not (sequence / "times.txt").exists()

    code, out, _ = run(capsys, bags["sqlite"], "--out", root)
    assert code == 0
    assert "8 scans of /points (sensor_msgs/PointCloud2, 8 messages), 3 of them there" in out
    assert all(path.stat().st_mtime_ns == time for path, time in there.items())
    np.testing.assert_array_equal(points(sequence, 7)[:, 0], scan(7)["x"])
    for name in ("times.txt", "poses.txt"):
        assert len((sequence / name).read_text().splitlines()) == 8


def test_a_damaged_bag_is_kept_as_far_as_it_is_read(tmp_path: Path, capsys: Capture) -> None:
    types = Types(ros1=True)
    bag = write_bag(tmp_path, "ros1", types, [*clouds(types, 40), *motion(types, 4.0, "odometry")])
    content = bytearray(bag.read_bytes())
    half = len(content) // 2
    content[half : half + 5000] = bytes(5000)
    bag.write_bytes(content)
    root = tmp_path / "mine"
    for _ in range(2):  # the second call finds the same
        code, out, err = run(capsys, bag, "--out", root)
        assert code == 3
        (fault,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert f"{bag} is damaged (" in fault
        assert fault.endswith("; what could be read is kept")
        count = int(re.findall(r"drive: (\d+) scans", out)[0])
        assert 0 < count < 40
    sequence = root / "sequences/drive"
    assert len(list(sequence.glob("velodyne/*.bin"))) == count
    for name in ("times.txt", "poses.txt"):
        assert len((sequence / name).read_text().splitlines()) == count


@pytest.mark.parametrize(
    ("container", "remedy"),
    [("ros1", "rosbag reindex"), ("sqlite", "ros2 bag reindex"), ("mcap", "mcap recover")],
)
def test_a_bag_without_its_end(
    container: str, remedy: str, bags: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    """The index is lost with it; the tool that makes it anew is named."""
    whole = bags[container]
    file = whole if whole.is_file() else next(p for p in whole.iterdir() if p.suffix != ".yaml")
    cut = tmp_path / f"cut{file.suffix}"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    code, _, err = run(capsys, cut, "--out", tmp_path / "mine")
    assert code == 3
    assert f"error: {cut} " in err
    assert remedy in err
    assert err.splitlines()[-1].startswith("error: ")


def test_two_topics_and_lone_files(bags: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    types = Types(ros1=False)
    sent = [*clouds(types, 2, "/front"), *clouds(types, 3, "/rear")]
    bag = write_bag(tmp_path, "mcap", types, sent)
    (file,) = bag.glob("*.mcap")
    code, _, err = run(capsys, file, "--out", tmp_path / "mine")
    assert code == 2
    assert "/front (sensor_msgs/PointCloud2, 2 messages), /rear (sensor_msgs/PointCloud2, 3" in err
    code, out, _ = run(capsys, file, "--topic", "/rear", "--out", tmp_path / "mine")
    assert (code, "3 scans of /rear" in out) == (0, True)
    (file,) = bags["sqlite"].glob("*.db3")
    code, out, _ = run(capsys, file, "--out", tmp_path / "other")
    assert (code, "8 scans of /points" in out) == (0, True)


def test_a_field_with_labels_and_one_of_another_name(tmp_path: Path, capsys: Capture) -> None:
    types = Types(ros1=True)
    dtype = [("x", ">f8"), ("y", ">f8"), ("z", ">f8"), ("signal", ">u2"), ("label", ">u4")]
    values = np.zeros((2, 30), dtype)
    values["x"], values["signal"] = np.arange(60).reshape(2, 30), 700
    values["label"] = np.arange(60).reshape(2, 30) + (5 << 16)
    sent = [Sent(POINTS, CLOUD, START_NS, types.cloud(START_NS, values))]
    bag = write_bag(tmp_path, "ros1", types, sent)
    code, out, err = run(
        capsys, bag, "--out", tmp_path / "mine", "--layout", "fields=intensity:signal"
    )
    assert code == 0, err
    assert "1 scans of /points (sensor_msgs/PointCloud2, 1 messages), 1 with labels" in out
    sequence = tmp_path / "mine/sequences/drive"
    written = points(sequence, 0, 4)
    np.testing.assert_array_equal(written[:, 0], np.arange(60))
    assert (written[:, 3] == 700).all()
    labels = np.fromfile(sequence / "labels/000000.label", "<u4")
    np.testing.assert_array_equal(labels, np.arange(60) + (5 << 16))
    code, out, _ = run(capsys, bag, "--out", tmp_path / "other")
    assert "  fields left out: signal\n  intensity: no such field, written as 0" in out


def test_recordings_that_differ(bags: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    """One description cannot state two kinds of files."""
    types = Types(ros1=False)
    plain = np.ones(5, [("x", "f4"), ("y", "f4"), ("z", "f4")])
    sent = [Sent(POINTS, CLOUD, START_NS, types.cloud(START_NS, plain))]
    bag = write_bag(tmp_path, "mcap", types, sent).rename(tmp_path / "plain")
    code, _, err = run(capsys, bags["mcap"], bag, "--out", tmp_path / "mine")
    assert code == 2
    assert "plain has x y z intensity, but drive has x y z intensity ring time: import" in err
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere.bag"], 3, "nowhere.bag does not exist: give a bag, or a file or folder of sc"),
        (["EMPTY"], 3, "holds no bag and no files of scans (found: notes.txt): give a bag"),
        (["BAG", "--every", "0"], 2, "--every 0: keep at least each first scan"),
        (["BAG", "--topic", "/lidar"], 2, "no such topic; topics that can be read: /points (sens"),
        (["SCAN", "--topic", "/lidar"], 2, "--topic /lidar is for bags, and none is given"),
        (["SCAN"], 2, "scan.bin is raw: state its values per point, e.g. --layout columns=4"),
        (["BAG", "--layout", "columns"], 2, "--layout columns: write KEY=VALUE"),
        (["BAG", "--layout", "fields=ring:row"], 3, "has no field 'row', which layout.fields.ring"),
    ],
)
def test_mistakes(
    words: list[str], code: int, message: str, bags: dict[str, Path], tmp_path: Path,
    capsys: Capture,
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("none")
    np.zeros((9, 4), "<f4").tofile(tmp_path / "scan.bin")
    places = {
        "BAG": bags["ros1"], "EMPTY": tmp_path / "empty", "SCAN": tmp_path / "scan.bin",
    }  # fmt: skip
    found, _, err = run(capsys, *(places.get(w, w) for w in words), "--out", tmp_path / "mine")
    assert (found, err.count("\n")) == (code, 1), err
    assert message in err
    assert not (tmp_path / "mine").exists()


def test_without_the_library(
    bags: dict[str, Path], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rosbags.rosbag1", None)
    code, _, err = run(capsys, bags["ros1"], "--out", tmp_path / "mine")
    assert code == 2
    assert "which is not installed: pip install 'rangeseg[bags]'" in err


def test_a_folder_of_files_with_labels_and_poses(tmp_path: Path, capsys: Capture) -> None:
    """Named by time, the last digits cut: in the order of the times."""
    drive = tmp_path / "town 1"
    drive.mkdir()
    poses = []
    for number, name in enumerate(("7.1", "7.15", "7.2", "10.0")):
        points_there = scan(number)
        xyzi = np.stack([points_there[c] for c in ("x", "y", "z", "intensity")], axis=1)
        np.save(drive / f"{name}.npy", xyzi)
        np.full(len(xyzi), number, np.uint8).tofile(drive / f"{name}.label")
        poses.append(" ".join(map(str, vehicle(number)[:3].ravel())))
    (drive / "poses.txt").write_text("\n".join(poses))
    root = tmp_path / "mine"
    code, out, err = run(capsys, drive, "--out", root, "--every", 2)
    assert code == 0, err
    sequence = root / "sequences/town_1"
    assert "2 scans of" in out
    assert "2 with labels" in out
    assert "poses: 2 of 2 scans, from poses.txt" in out
    assert (sequence / "times.txt").read_text() == "7.100000000\n7.200000000\n"
    np.testing.assert_array_equal(points(sequence, 1, 4)[:, 0], scan(2)["x"])
    labels = np.fromfile(sequence / "labels/000001.label", "<u4")
    assert set(labels) == {2}
    rows = np.loadtxt(sequence / "poses.txt").reshape(2, 3, 4)
    np.testing.assert_allclose(rows[1], vehicle(2)[:3], atol=1e-6)

    (drive / "11.0.npy").write_bytes((drive / "10.0.npy").read_bytes())
    code, _, err = run(capsys, drive, "--out", root, "--every", 2)
    assert code == 2
    assert "town_1 holds 4 scans of its source, which has 5 now: choose another --out" in err


@pytest.mark.real_data
def test_real_packets_are_refused(real_data: Path, tmp_path: Path, capsys: Capture) -> None:
    bag = real_data / "formats/vlp16_packets"
    for source in (bag, next(bag.glob("*.db3"))):
        code, out, err = run(capsys, source, "--out", tmp_path / "mine")
        assert (code, out, err.count("\n")) == (3, "", 1)
        assert "/velodyne_packets (velodyne_msgs/VelodyneScan, 4 messages) holds raw packets" in err
        assert "velodyne_pointcloud" in err


@pytest.mark.real_data
def test_real_pcd_files(real_data: Path, tmp_path: Path, capsys: Capture) -> None:
    """Two sensors with ring and time: all of both survives."""
    files = [
        real_data / "formats" / name
        for name in ("vlp16_binary_ring.pcd", "p64_compressed_ring_time.pcd")
    ]
    code, out, err = run(capsys, *files, "--out", tmp_path / "mine")
    assert code == 0, err
    for file in files:
        written = points(tmp_path / "mine/sequences" / file.stem, 0)
        fields = read_fields(file, Layout())
        roles = find_roles(tuple(fields), {})
        for column, role in enumerate(get_args(Role)[:5]):
            expected = fields[roles[role]].astype("f4")
            np.testing.assert_array_equal(written[:, column], expected)
        turn_s = 0.0013 if "vlp16" in file.name else 0.1  # the first counts from each packet
        assert np.ptp(written[:, 5]) == pytest.approx(turn_s, rel=0.02)
    assert "ring_column=4 time_column=5" in out
    stamp = json.loads(
        (tmp_path / "mine/sequences" / files[0].stem / "rangeseg_import.json").read_text()
    )
    assert stamp["complete"]
