"""Writing: the same bytes however it is done, whole files, refusals."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import DataError, RangesegError
from rangeseg.simulation.generate import (
    SIMULATION_VERSION,
    SimulationSettings,
    generate_dataset,
)
from rangeseg.system.progress import Progress
from tests.runs.test_saving import file_limit

SMALL = SimulationSettings(seed=3, train_scans=13, val_scans=3, test_scans=3, beams=8, columns=96)
REPOSITORY = Path(__file__).parents[2]


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("simulated") / "street"
    generate_dataset(root, SMALL, workers=1)
    return root


def test_the_layout_is_semantic_kittis(made: Path) -> None:
    frames = {
        folder.parent.name: sorted(path.stem for path in folder.iterdir())
        for folder in made.glob("sequences/*/velodyne")
    }
    assert sorted(frames) == [f"{s:02d}" for s in range(13)]
    assert [len(frames[f"{s:02d}"]) for s in range(13)] == [2, 2, 2, 1, 1, 1, 1, 1, 3, 1, 1, 2, 1]
    assert frames["08"] == ["000000", "000001", "000002"]
    source = SemanticKitti(made)
    for scan_id in (*source.scan_ids("train"), "08/000002", "12/000000"):
        scan = source.read_scan(scan_id)
        assert np.isfinite(scan.points).all()
        assert scan.labels is not None
        azimuth = np.arctan2(scan.points[:, 1], scan.points[:, 0]) % (2 * np.pi)
        assert (np.diff(azimuth) < -np.pi).sum() == SMALL.beams - 1


def test_the_stamp_names_version_and_settings(made: Path) -> None:
    stamp = json.loads((made / "simulation.json").read_text())
    assert stamp == {
        "version": SIMULATION_VERSION,
        "settings": SMALL.model_dump(),
        "complete": True,
    }


@pytest.mark.slow
def test_workers_do_not_change_a_byte(made: Path, tmp_path: Path) -> None:
    generate_dataset(tmp_path / "two", SMALL, workers=2)
    assert contents(tmp_path / "two") == contents(made)


def test_another_seed_is_another_street(made: Path, tmp_path: Path) -> None:
    other = SMALL.model_copy(update={"seed": 4})
    generate_dataset(tmp_path / "other", other, workers=1)
    ours, theirs = contents(made), contents(tmp_path / "other")
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in ours if name.endswith(".bin"))


def test_missing_files_are_made_again_and_no_others(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "street"
    generate_dataset(root, SMALL, workers=1)
    kept = root / "sequences/00/velodyne/000001.bin"
    (root / "sequences/08/velodyne/000001.bin").unlink()
    (root / "sequences/11/labels/000000.label").unlink()
    (root / "sequences/11/labels/000000.label.123.tmp").write_bytes(b"half a fi")
    before = kept.stat().st_mtime_ns
    generate_dataset(root, SMALL, workers=1)
    assert contents(root) == contents(made)
    assert kept.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_is_resumed_to_the_same_bytes(made: Path, tmp_path: Path) -> None:
    root, script = tmp_path / "killed", tmp_path / "simulate.py"
    script.write_text(
        "from pathlib import Path\n"
        "from rangeseg.simulation.generate import SimulationSettings, generate_dataset\n"
        "if __name__ == '__main__':\n"
        f"    settings = SimulationSettings(**{SMALL.model_dump()})\n"
        f"    generate_dataset(Path({str(root)!r}), settings, workers=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment)
    deadline = time.monotonic() + 60.0
    while len(list(root.rglob("*.bin"))) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((root / "simulation.json").read_text())["complete"] is False
    time.sleep(0.5)  # workers without a parent notice it after their scan
    assert 4 <= len(list(root.rglob("*.bin"))) < 19
    generate_dataset(root, SMALL, workers=1)
    assert contents(root) == contents(made)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_worker_that_is_killed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine without memory does it."""
    update = Progress.update

    def kill_one(progress: Progress, amount: int = 1, note: str = "") -> None:
        update(progress, amount, note)
        for worker in multiprocessing.active_children()[:1]:
            os.kill(worker.pid or 0, signal.SIGKILL)

    monkeypatch.setattr(Progress, "update", kill_one)
    with pytest.raises(RangesegError, match="ended with code -9: free memory, or go on with fewer"):
        generate_dataset(tmp_path / "street", SMALL, workers=2)


def test_a_full_disk_is_said_with_the_file(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "street"
    said = r"00/velodyne/000000\.bin cannot be written \(File too large\): make room"
    with file_limit(5000), pytest.raises(DataError, match=said):
        generate_dataset(root, SMALL, workers=1)
    assert not list(root.rglob("*.tmp"))
    generate_dataset(root, SMALL, workers=1)
    assert contents(root) == contents(made)


def test_other_settings_are_refused(made: Path) -> None:
    other = SMALL.model_copy(update={"columns": 128})
    with pytest.raises(DataError, match=re.escape("columns: 96 there, 128 asked")):
        generate_dataset(made, other)


def test_a_folder_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"is not empty and has no simulation\.json"):
        generate_dataset(tmp_path, SMALL)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_another_version_is_refused(tmp_path: Path) -> None:
    stamp = {"version": 999, "settings": {"new": 1}, "complete": True}
    (tmp_path / "simulation.json").write_text(json.dumps(stamp))
    with pytest.raises(DataError, match=r"simulation version 999, this is version 1.*another root"):
        generate_dataset(tmp_path, SMALL)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 1, "settings": {"seed": -1}}'])
def test_a_damaged_stamp_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "simulation.json").write_text(text)
    with pytest.raises(DataError, match=r"simulation\.json is damaged"):
        generate_dataset(tmp_path, SMALL)


def test_a_file_in_place_of_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not a folder"):
        generate_dataset(tmp_path / "file", SMALL)


@pytest.mark.parametrize(
    "wrong", [{"beams": 65}, {"beams": 0}, {"columns": 8}, {"train_scans": 9}, {"sed": 1}]
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        SimulationSettings(**wrong)
