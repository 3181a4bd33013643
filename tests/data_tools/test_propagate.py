"""``rangeseg-data propagate``, on the simulated street and on real scans."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_tools.cli import main
from rangeseg.datasets import open_dataset
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.nuscenes.index import write_index
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.nuscenes.tables import build_index
from rangeseg.datasets.packed.write import pack_dataset
from rangeseg.datasets.simulated import Simulated
from rangeseg.motion.write import STAMP, read_propagation
from rangeseg.simulation.generate import SimulationSettings, generate_dataset
from tests.datasets.nuscenes_format import write_nuscenes

Capture = pytest.CaptureFixture[str]
LABELLED = ["00/000003", "01/000000", "04/000002"]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scans of every training sequence, 2 m apart."""
    root = tmp_path_factory.mktemp("street")
    settings = SimulationSettings(
        train_scans=60, val_scans=1, test_scans=2, columns=256, spacing=2.0
    )
    generate_dataset(root, settings, workers=1)
    return root


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lists") / "labelled.txt"
    path.write_text("\n".join(LABELLED))
    return path


def words(root: Path, labelled: Path, out: Path, *more: str) -> list[str]:
    return [
        "propagate", "simulated", str(root), "--labels", str(labelled), "--out", str(out), *more,
    ]  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != STAMP)
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def test_label_files_for_the_scans_within_reach(
    street: Path, labelled: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert main([*words(street, labelled, out, "--reach", "2", "--verify", "--json")]) == 0
    found = json.loads(capsys.readouterr().out)  # stdout is JSON alone
    expected = {f"00/{n:06d}" for n in (1, 2, 4, 5)} | {f"01/{n:06d}" for n in (1, 2)}
    expected |= {f"04/{n:06d}" for n in (0, 1, 3, 4)}
    source = Simulated(street)
    assert set(files(out)) == {f"sequences/{i[:2]}/labels/{i[3:]}.label" for i in expected}
    assert found["scans"] == len(expected)
    assert found["labelled"] == 3
    counted = np.zeros(3)  # right, covered, known
    for scan_id in expected:
        scan = source.read_scan(scan_id)
        raw = np.fromfile(out / source.label_file(scan_id), "<u4")
        given = source.info.label_map.to_train(raw)
        assert scan.labels is not None
        known, covered = scan.labels != IGNORE, given != IGNORE
        assert set(raw[~covered]) <= {0}
        right = known & (given == scan.labels)
        counted += right.sum(), (known & covered).sum(), known.sum()
    assert found["right"] == pytest.approx(counted[0] / counted[1])
    assert found["covered"] == pytest.approx(counted[1] / counted[2])
    assert found["right"] > 0.9
    assert found["covered"] > 0.5
    assert found["apart"].keys() == {"1 frames", "2 frames"}
    points = [part["points"] for part in found["classes"].values()]
    assert sum(points) == sum(part["points"] for part in found["range"].values()) == counted[2]


def test_labels_of_unlabelled_scans_are_opened_to_verify_and_for_nothing_else(
    street: Path, labelled: Path, tmp_path: Path, capsys: Capture
) -> None:
    root = tmp_path / "street"
    shutil.copytree(street, root)
    for path in root.glob("sequences/*/labels/*.label"):
        if f"{path.parts[-3]}/{path.stem}" not in LABELLED:
            path.write_bytes(b"damaged")
    one, other = tmp_path / "one", tmp_path / "other"
    assert main(words(street, labelled, one, "--reach", "2")) == 0
    assert main(words(root, labelled, other, "--reach", "2")) == 0
    assert files(one) == files(other)
    capsys.readouterr()
    assert main(words(root, labelled, other, "--reach", "2", "--verify")) == 3
    assert "00000" in (error := capsys.readouterr().err)
    assert "the file is truncated" in error


@pytest.mark.slow
def test_a_killed_call_is_completed(street: Path, labelled: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(words(street, labelled, whole, "--reach", "5")) == 0
    command = [sys.executable, "-m", "data_tools.cli", *words(street, labelled, killed)]
    process = subprocess.Popen([*command, "--reach", "5"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(killed.rglob("*.label"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(words(street, labelled, killed, "--reach", "5")) == 0
    assert files(killed) == files(whole)


def test_a_folder_of_something_else_is_left_alone(
    street: Path, labelled: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    assert main(words(street, labelled, tmp_path / "mine", "--reach", "2")) == 2
    assert f"is not empty and holds no sound {STAMP}" in capsys.readouterr().err
    out = tmp_path / "out"
    assert main(words(street, labelled, out, "--reach", "2")) == 0
    before = files(out)
    assert main(words(street, labelled, out, "--reach", "3")) == 2
    assert "was begun with other settings" in capsys.readouterr().err
    assert files(out) == before


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--reach", "0"], 2, "reach 0 carries no label"),
        (["--reach", "far"], 2, "--reach far: .*write frames"),
        (["--distance", "-1"], 2, "--distance -1.0: .*greater than 0"),
        (["--reach", "1s"], 3, "the time of 00/000000 is not known: add times.txt"),
        (["--poses", "none"], 3, "sequence 00 has no poses|none/00.txt does not exist"),
        (["--reach", "0.5m"], 3, "no unlabelled scan is within reach 0.5m of the 3 labelled"),
    ],
)
def test_bad_input_is_one_line(
    street: Path, labelled: Path, tmp_path: Path, capsys: Capture,
    more: list[str], code: int, message: str,
) -> None:  # fmt: skip
    import re

    assert main(words(street, labelled, tmp_path / "out", *more)) == code
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("error:") == 1
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_labelled_scan_without_neighbours_is_named(
    street: Path, tmp_path: Path, capsys: Capture
) -> None:
    every = [f"05/{n:06d}" for n in range(6)]
    (tmp_path / "list.txt").write_text("\n".join([*every, "04/000002"]))
    assert main(words(street, tmp_path / "list.txt", tmp_path / "out", "--reach", "100")) == 0
    error = capsys.readouterr().err
    assert "05/000000 and 5 more of 7 labelled scans: no unlabelled scan is within reach" in error
    assert len(files(tmp_path / "out")) == 5  # the reach ends with the sequence


def test_packed_data_give_nearly_the_same(
    street: Path, labelled: Path, tmp_path: Path, capsys: Capture
) -> None:
    pack_dataset(Simulated(street), "simulated", tmp_path / "street.pack", ["train"])
    assert main(words(street, labelled, tmp_path / "a", "--reach", "2")) == 0
    assert main(words(tmp_path / "street.pack", labelled, tmp_path / "b", "--reach", "2")) == 0
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert a.keys() == b.keys()
    one, other = (np.frombuffer(b"".join(f[k] for k in sorted(f)), "<u4") for f in (a, b))
    assert (one == other).mean() > 0.999  # coordinates differ by half a millimetre
    found = read_propagation(tmp_path / "b")
    assert found.source.root == (tmp_path / "street.pack").resolve()
    assert (found.labels("00/000002") != IGNORE).any()


def test_nuscenes(tmp_path: Path, capsys: Capture) -> None:
    root = write_nuscenes(tmp_path / "nuscenes", "v1.0-mini", None, samples=3, firings=32)
    write_index(build_index(root, "v1.0-mini"), root)
    source = NuScenes(root)
    scene = source.sequences("train")[0]
    tokens = source.sequence_ids(scene)
    (tmp_path / "list.txt").write_text(tokens[1])
    command = ["propagate", "nuscenes", str(root), "--labels", str(tmp_path / "list.txt")]
    assert main([*command, "--reach", "0.6s", "--out", str(tmp_path / "out")]) == 0
    assert "labels for 2 scans" in capsys.readouterr().out
    for token in (tokens[0], tokens[2]):
        path = tmp_path / "out" / source.label_file(token)
        assert path.parent == tmp_path / "out" / "lidarseg" / "v1.0-mini"
        raw = np.fromfile(path, np.uint8)
        assert len(raw) == len(source.read_scan(token).points)
        assert 0 < (raw != 0).mean() < 1


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_mini_set(real_data: Path, tmp_path: Path, capsys: Capture) -> None:
    """Frame 0 of ten places labels frames 4 and 9; the default settings."""
    root = real_data / "semantickitti_mini"
    source = open_dataset("semantic_kitti", root)
    chosen = [f"{sequence}/000000" for sequence in source.sequences("train")]
    (tmp_path / "list.txt").write_text("\n".join(chosen))
    command = ["propagate", "semantic_kitti", str(root), "--labels", str(tmp_path / "list.txt")]
    assert main([*command, "--out", str(tmp_path / "out"), "--verify", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scans"] == 20
    assert found["right"] > 0.985
    assert found["covered"] > 0.915
    assert found["miou"] > 0.91
    assert found["apart"]["4 frames"]["right"] > found["apart"]["9 frames"]["right"]
    assert "08" not in {path.parts[-3] for path in (tmp_path / "out").rglob("*.label")}
