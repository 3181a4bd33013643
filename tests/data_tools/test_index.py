"""``rangeseg-data index`` on data that the real devkit loads, sound and not."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.cli import main
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.errors import DataError
from tests.datasets.nuscenes_format import write_nuscenes

Capture = pytest.CaptureFixture[str]
INDEX = "rangeseg_index_v1.0-mini.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound") / "nuscenes"
    return write_nuscenes(root, scenes=["scene-0061", "scene-0103", "scene-0553"], firings=4)


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy that may be harmed."""
    return Path(shutil.copytree(sound, tmp_path / "nuscenes"))


def call(capsys: Capture, *words: object) -> tuple[int, str, str]:
    """Run the command; returns its exit code, stdout and stderr."""
    code = main(["index", "nuscenes", *[str(word) for word in words]])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_summary(root: Path, capsys: Capture) -> None:
    code, out, err = call(capsys, root)
    assert code == 0
    assert out.splitlines() == [
        f"{root / INDEX}: written",
        "split         scenes   scans",
        "mini_train         2       4",
        "mini_val           1       2",
    ]
    assert "checking files of v1.0-mini: 6/6 scans" in err
    before = (root / INDEX).read_bytes()
    code, out, _ = call(capsys, root, "--version", "v1.0-mini")
    assert code == 0
    assert out.startswith(f"{root / INDEX}: rewritten\n")
    assert (root / INDEX).read_bytes() == before
    assert [path.name for path in root.glob("rangeseg*")] == [INDEX]  # no temporary file


def test_an_index_moves_with_its_data(root: Path, tmp_path: Path, capsys: Capture) -> None:
    assert call(capsys, root)[0] == 0
    assert str(tmp_path) not in (root / INDEX).read_text()
    moved = root.rename(tmp_path / "elsewhere")
    source = NuScenes(moved)
    assert len(source.read_scan(source.scan_ids("val")[0]).points) == 4 * 32


def test_data_that_cannot_be_written_to(
    root: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a relative ROOT must still be found from anywhere
    out_folder = tmp_path / "new" / "index"
    code, out, _ = call(capsys, root.name, "--out", out_folder)
    assert code == 0
    assert out.startswith(f"{out_folder / INDEX}: written\n")
    assert not list(root.glob("rangeseg*"))
    monkeypatch.chdir("/")
    source = NuScenes(out_folder)
    assert len(source.read_scan(source.scan_ids("val")[0]).points) == 4 * 32

    root.rename(tmp_path / "gone")
    with pytest.raises(
        DataError,
        match=rf"names the data folder {root}, which is missing: .*"
        rf"index nuscenes ROOT --version v1.0-mini --out {out_folder}",
    ):
        NuScenes(out_folder).scan_ids("val")


def test_an_index_that_cannot_be_written(root: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    code, out, err = call(capsys, root, "--out", tmp_path / "file")
    assert (code, out) == (2, "")
    assert re.search(
        rf"error: .*{INDEX} cannot be written \(.*\): name another folder .*--out", err
    )


def test_a_version_without_labels(tmp_path: Path, capsys: Capture) -> None:
    write_nuscenes(tmp_path, "v1.0-test", scenes=["scene-0077"], firings=2)
    code, out, _ = call(capsys, tmp_path)
    assert code == 0
    assert out.splitlines()[-1].split() == ["test", "1", "2"]
    scans = json.loads((tmp_path / "rangeseg_index_v1.0-test.json").read_text())
    assert [scan[3] for scan in scans["scenes"]["scene-0077"]["scans"]] == [None, None]

    (tmp_path / "lidarseg/v1.0-test").rmdir()
    code, _, err = call(capsys, tmp_path)
    assert code == 3
    assert "lidarseg/v1.0-test is missing, though it holds no label: make an empty folder" in err
    (tmp_path / "v1.0-test/lidarseg.json").unlink()  # as it comes without the labels' archive
    assert call(capsys, tmp_path)[0] == 0


def test_several_versions(root: Path, capsys: Capture) -> None:
    write_nuscenes(root, "v1.0-test", scenes=["scene-0077"], firings=2)
    code, out, err = call(capsys, root)
    assert (code, out) == (2, "")
    assert f"{root} holds v1.0-mini, v1.0-test: choose one, --version v1.0-mini" in err
    assert call(capsys, root, "--version", "v1.0-test")[0] == 0
    assert [path.name for path in root.glob("rangeseg*")] == ["rangeseg_index_v1.0-test.json"]


def edit(name: str, change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], object]:
    """A harm: change the records of a table, which is loaded and written back."""

    def harm(root: Path) -> None:
        path = root / "v1.0-mini" / f"{name}.json"
        records = json.loads(path.read_text())
        change(records)
        path.write_text(json.dumps(records))

    return harm


def without_lidar(records: list[dict[str, Any]]) -> None:
    for record in records:
        if record["filename"].startswith("samples/LIDAR_TOP/scene-0103"):
            record["is_key_frame"] = False


def delete_scans(root: Path) -> None:
    for path in [*root.glob("samples/LIDAR_TOP/*"), *root.glob("lidarseg/*/*")]:
        if "scene-0553" in path.name:
            path.unlink()


def rename_label(root: Path) -> None:
    path = next(iter(root.glob("lidarseg/v1.0-mini/*.bin")))
    path.rename(path.with_name("other.bin"))  # the devkit counts files, no more


# What is done to a sound root, the exit code, and what is said about it.
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "table": (
        lambda root: (root / "v1.0-mini/sample.json").unlink(),
        r"incomplete or damaged \(.*/sample\.json.*: unpack v1\.0-mini\.tgz into .* again",
    ),
    "damaged table": (
        lambda root: (root / "v1.0-mini/sample_data.json").write_text('[{"token": "a'),
        r"the tables and files of v1\.0-mini in .*nuscenes are incomplete or damaged "
        r"\(JSONDecodeError: Unterminated.*: unpack",
    ),
    "record": (
        edit("sensor", lambda records: records.clear()),
        r"incomplete or damaged \(KeyError: ",
    ),
    "record of a scene": (
        edit("scene", lambda records: records.pop()),
        r"incomplete or damaged \(KeyError: .* again",
    ),
    "category without index": (
        edit("category", lambda records: [record.pop("index") for record in records]),
        r"incomplete or damaged \(AssertionError: Please use the category.json.*: unpack .* and "
        r"after it nuScenes-lidarseg-mini-v1\.0\.tar\.bz2",
    ),
    "labels' table": (
        lambda root: (root / "v1.0-mini/lidarseg.json").unlink(),
        r"v1\.0-mini/lidarseg\.json is missing: download nuScenes-lidarseg-mini-v1\.0\.tar\.bz2",
    ),
    "labels' folder": (
        lambda root: shutil.rmtree(root / "lidarseg"),
        r"lidarseg/v1\.0-mini is missing: download nuScenes-lidarseg-mini-v1\.0\.tar\.bz2",
    ),
    "labels' count": (
        lambda root: next(iter(root.glob("lidarseg/v1.0-mini/*.bin"))).unlink(),
        r"incomplete or damaged \(AssertionError: Error: there are "
        r"5 label files but 6 lidarseg records\.\): unpack .* nuScenes-lidarseg-mini",
    ),
    "labels' record": (
        edit("lidarseg", lambda records: records[0].update(token="0" * 32)),
        r"incomplete or damaged \(KeyError: .* again, and after it nuScenes-lidarseg-mini",
    ),
    "key frame": (
        edit("sample_data", without_lidar),
        r"incomplete or damaged \(KeyError: 'LIDAR_TOP'\): unpack",
    ),
    "split": (
        edit("scene", lambda records: records[0].update(name="scene-0001")),
        r"scene-0001 is in no official split of v1\.0-mini: check",
    ),
    "scans": (
        delete_scans,
        r"2 files of 6 scans are missing in .*nuscenes \(samples/LIDAR_TOP/scene-0553__.*\): "
        r"download v1\.0-mini\.tgz from nuscenes\.org",
    ),
    "label": (
        rename_label,
        r"1 files of 6 scans are missing in .* \(lidarseg/v1\.0-mini/\w{32}_lidarseg\.bin\): "
        r"download nuScenes-lidarseg-mini",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str, root: Path, capsys: Capture) -> None:
    harm, message = FAULTS[fault]
    harm(root)
    code, out, err = call(capsys, root)
    assert (code, out) == (3, "")
    last = err.splitlines()[-1]
    assert re.match(f"error: .*{message}", last), last
    assert not list(root.glob("rangeseg*"))


class TestWrongRoot:
    def test_no_folder(self, root: Path, capsys: Capture) -> None:
        code, _, err = call(capsys, root / "nothing")
        assert code == 3
        assert "nothing is not a folder: give nuScenes' own" in err

    @pytest.mark.parametrize("inner", ["v1.0-mini", ".."])
    def test_a_folder_beside(self, inner: str, root: Path, capsys: Capture) -> None:
        code, _, err = call(capsys, (root / inner).resolve())
        assert code == 3
        assert f"did you mean {root}?" in err
        assert "expected v1.0-trainval, v1.0-mini, v1.0-test (found: " in err

    def test_labels_are_no_tables(self, root: Path, capsys: Capture) -> None:
        assert f"did you mean {root}?" in call(capsys, root / "lidarseg")[2]
        shutil.rmtree(root / "v1.0-mini")
        for words in ((), ("--version", "v1.0-mini")):
            code, _, err = call(capsys, root, *words)
            assert code == 3
            assert "(found: lidarseg, maps, samples)" in err

    def test_absent_version(self, root: Path, capsys: Capture) -> None:
        code, _, err = call(capsys, root, "--version", "v1.0-trainval")
        assert code == 3
        assert f"{root} holds no v1.0-trainval (there: v1.0-mini): download it" in err

    def test_unknown_version(self, root: Path, capsys: Capture) -> None:
        code, _, err = call(capsys, root, "--version", "v1.0-minni")
        assert code == 2
        assert "unknown version 'v1.0-minni' (did you mean 'v1.0-mini'?)" in err

    def test_another_data_set(self, root: Path, capsys: Capture) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["index", "semantic_kitti", str(root)])
        assert "invalid choice: 'semantic_kitti'" in capsys.readouterr().err


def test_without_the_devkit(root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nuscenes", None)
    code, _, err = call(capsys, root)
    assert code == 2
    assert "nuscenes-devkit, which cannot be imported" in err
    assert "pip install 'rangeseg[nuscenes]'" in err


def test_check_reads_by_the_index(root: Path, capsys: Capture) -> None:
    words = ["check", "nuscenes", str(root), "--deep"]
    assert main(words) == 3
    assert f"rangeseg-data index nuscenes {root} --version v1.0-mini" in capsys.readouterr().err
    assert call(capsys, root)[0] == 0
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.endswith("problems: none\n")
    rows = [line.split()[:5] for line in out.splitlines()]
    assert ["val", "scene-0103", "2", "2", "256"] in rows
    notes = [line for line in out.splitlines() if line.startswith("note:")]
    assert [" is partial: " in note for note in notes] == [True, True]
    assert "test" not in out.split()  # is not indexed, and training does not need it
