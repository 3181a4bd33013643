"""``rangeseg-data check``: the report, the JSON document, the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.cli import main
from rangeseg.datasets.semantic_kitti import SemanticKitti
from tests.data_tools.kitti_layout import write_root, write_scan

Capture = pytest.CaptureFixture[str]
REPOSITORY = Path(__file__).parents[2]
FAULTS = ["missing", "truncated", "mismatch", "unknown_id", "other"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "kitti")


def call(capsys: Capture, *words: object) -> tuple[int, str, str]:
    """Check; returns the exit code, stdout and stderr."""
    code = main(["check", *[str(word) for word in words]])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def call_json(capsys: Capture, *words: object) -> tuple[int, dict[str, Any]]:
    """Check with --json; returns the exit code and the document, which is all of stdout."""
    code, out, _ = call(capsys, *words, "--json")
    return code, json.loads(out)


def harm(root: Path) -> None:
    """One fault of each kind that shows in the sizes of files, in three sequences."""
    source = SemanticKitti(root)
    source.paths("00/000000")[0].write_bytes(b"12345")
    source.paths("05/000000")[1].unlink()
    write_scan(root, "08/000001", [40])
    (root / "sequences/03").rename(root / "elsewhere")


class TestReport:
    def test_sound(self, root: Path, capsys: Capture) -> None:
        code, out, err = call(capsys, "semantic_kitti", root)
        assert code == 0
        lines = [line.split() for line in out.splitlines()]
        assert lines[0] == ["split", "sequence", "scans", "labelled", "points", *FAULTS]
        assert lines[1] == ["train", "00", "2", "2", "10", *"00000"]
        assert ["val", "08", "2", "2", "10", *"00000"] in lines
        assert lines[-4] == ["total", "22", "22", "110", *"00000"]
        assert lines[-1] == ["problems:", "none"]
        assert len({len(line) for line in out.splitlines()[:-3]}) == 1  # columns are aligned
        few, val = out.splitlines()[-3:-1]
        assert few == (
            "note: the split train is partial: 20 of 19,130 scans, 10 of 10 sequences; missing: "
            "00/000002 and 4,538 more of 00, 01/000002 and 1,098 more of 01, 02/000002 and 4,658 "
            "more of 02, and scans of 7 more sequences: training works with it, but figures do not "
            "compare with published ones"
        )
        assert val.startswith("note: the split val is partial: 2 of 4,071 scans, 1 of 1 sequences;")
        assert "test" not in out  # is not there, and training does not need it
        assert "checking semantic_kitti: 22/22 scans" in err

    def test_every_fault_is_reported(self, root: Path, capsys: Capture) -> None:
        harm(root)
        code, out, _ = call(capsys, "semantic_kitti", root)
        assert code == 3
        lines = [line.split() for line in out.splitlines()]
        assert ["train", "00", "2", "1", "5", *"01000"] in lines
        assert ["train", "03", "0", "0", "0", *"10000"] in lines
        assert ["val", "08", "2", "1", "5", *"00100"] in lines
        assert ["total", "20", "17", "85", *"21100"] in lines
        problems = [line for line in out.splitlines() if line.startswith("problem: ")]
        assert len(problems) == 4
        assert "000000.bin has 5 bytes, not a multiple of 16" in problems[0]
        assert "sequence 03 is missing" in problems[1]
        assert "000000.label does not exist" in problems[2]
        assert "000001.label has 1 labels but 000001.bin has 5 points" in problems[3]
        assert out.endswith("problems: 4\n")

    def test_only_ten_culprits(self, root: Path, capsys: Capture) -> None:
        for path in root.glob("sequences/0?/labels/*.label"):
            path.unlink()
        code, out, _ = call(capsys, "semantic_kitti", root)
        assert code == 3
        assert out.count("\nproblem: ") == 11
        assert out.endswith("problem: ... 10 more\nproblems: 20\n")

    def test_some_splits(self, root: Path, capsys: Capture) -> None:
        code, out, _ = call(capsys, "semantic_kitti", root, "--split", "val")
        assert code == 0
        assert ["total", "2", "2", "10", *"00000"] in [line.split() for line in out.splitlines()]
        code, out, _ = call(capsys, "semantic_kitti", root, "--split", "test", "val")
        assert code == 3
        assert "problem: no sequence of the split test can be read: sequence 11 is missing" in out
        assert out.count("problem: ") == 1

    def test_only_listed_scans_need_labels(
        self, root: Path, tmp_path: Path, capsys: Capture
    ) -> None:
        (tmp_path / "list.txt").write_text("00/000001\n")
        for scan_id in SemanticKitti(root).scan_ids("train"):
            if scan_id != "00/000001":
                SemanticKitti(root).paths(scan_id)[1].unlink()
        arguments = ("semantic_kitti", root, "--labels", tmp_path / "list.txt")
        code, out, _ = call(capsys, *arguments)
        assert code == 0, out
        SemanticKitti(root).paths("00/000001")[1].unlink()
        assert call(capsys, *arguments)[0] == 3

    def test_a_listed_sequence_is_missing(
        self, root: Path, tmp_path: Path, capsys: Capture
    ) -> None:
        (tmp_path / "list.txt").write_text("00/000001\n")
        (root / "sequences/03").rename(root / "elsewhere")
        arguments = ("semantic_kitti", root, "--labels", tmp_path / "list.txt")
        code, out, _ = call(capsys, *arguments)
        assert code == 3
        assert "problem: sequence 03 is missing" in out
        assert out.endswith("problems: 1\n")
        code, out, err = call(capsys, *arguments, "--split", "val")  # the list cannot be checked
        assert (code, out) == (3, "")
        assert "error: sequence 03 is missing" in err

    def test_deep(self, root: Path, capsys: Capture) -> None:
        source = SemanticKitti(root)
        points = np.array(
            [[0, 0, 0, 0], [np.nan] * 4, [np.inf, 0, 0, 0], [1, 2, 3, 255]], dtype=np.float32
        )
        points.tofile(source.paths("01/000000")[0])
        np.zeros(4, dtype=np.uint32).tofile(source.paths("01/000000")[1])
        np.zeros((5, 4), dtype=np.float32).tofile(source.paths("02/000000")[0])
        write_scan(root, "00/000000", [40, 40, 40, 40, 5])
        assert call(capsys, "semantic_kitti", root)[0] == 0  # sizes alone are fine
        code, out, _ = call(capsys, "semantic_kitti", root, "--deep")
        assert code == 3
        lines = [line.split() for line in out.splitlines()]
        assert lines[0][-7:] == [*FAULTS, "nan_points", "empty_returns"]
        assert ["train", "00", "2", "1", "5", *"00010", "0", "0"] in lines
        assert ["train", "01", "2", "2", "9", *"00000", "2", "1"] in lines
        assert ["total", "22", "21", "104", *"00010", "2", "6"] in lines
        assert "000000.label: unknown raw id 5 (1 points)" in out
        assert "note: 01/000000 has intensities from 255 to 255, expected 0 to 1" in out
        assert "note: 01/000000 has only ignored labels" in out
        assert "note: 02/000000 has no point with a position" in out

    def test_histogram(self, root: Path, capsys: Capture) -> None:
        _, out, _ = call(capsys, "semantic_kitti", root, "--deep")
        table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
        assert table["car"] == ["40.000", "40.000"]  # 10 and 252 of five labels
        assert table["road"] == table["traffic-sign"] == table["(ignored)"] == ["20.000"] * 2
        assert table["person"] == ["0.000", "0.000"]


class TestJson:
    def test_sound(self, root: Path, capsys: Capture) -> None:
        code, document = call_json(capsys, "semantic_kitti", root)
        assert code == 0
        totals = {"scans": 22, "labelled": 22, "points": 110} | dict.fromkeys(FAULTS, 0)
        totals |= {"nan_points": None, "empty_returns": None}
        train, val = document.pop("completeness")
        assert {key: val[key] for key in list(val)[:6]} == {
            "split": "val", "complete": False, "scans": 2, "official_scans": 4071,
            "sequences": 1, "official_sequences": 1,
        }  # fmt: skip
        assert val["missing"] == [{"sequence": "08", "scans": 4069, "first": "08/000002"}]
        assert (train["official_scans"], len(train["missing"])) == (19130, 10)
        assert {k: v for k, v in document.items() if k != "sequences"} == {
            "ok": True, "dataset": "semantic_kitti", "root": str(root), "deep": False,
            "totals": totals, "class_points": None, "problems": [], "notes": [],
        }  # fmt: skip
        assert len(document["sequences"]) == 11
        assert document["sequences"][-1] == totals | {
            "split": "val", "sequence": "08", "scans": 2, "labelled": 2, "points": 10,
        }  # fmt: skip

    def test_all_problems_not_only_ten(self, root: Path, capsys: Capture) -> None:
        harm(root)
        for path in root.glob("sequences/1?/labels/*.label"):
            path.unlink()
        for path in root.glob("sequences/09/velodyne/*.bin"):
            path.write_bytes(b"1")
        for path in root.glob("sequences/0[467]/velodyne/*.bin"):
            path.write_bytes(b"")
        code, document = call_json(capsys, "semantic_kitti", root)
        assert (code, document["ok"]) == (3, False)
        assert len(document["problems"]) == 14
        assert document["problems"][0] == {
            "split": "train", "sequence": "00", "scan": "00/000000", "kind": "truncated",
            "message": f"{root}/sequences/00/velodyne/000000.bin has 5 bytes, not a multiple of 16 "
            "(4 float32 per point): the file is truncated; copy it again (or a point has another "
            "number of values than 4)",
        }  # fmt: skip
        assert document["problems"][1]["scan"] is None  # a whole sequence
        kinds = [problem["kind"] for problem in document["problems"]]
        assert {k: document["totals"][k] for k in FAULTS} == {k: kinds.count(k) for k in FAULTS}

    def test_deep(self, root: Path, capsys: Capture) -> None:
        np.zeros((5, 4), dtype=np.float32).tofile(SemanticKitti(root).paths("08/000000")[0])
        code, document = call_json(capsys, "semantic_kitti", root, "--deep")
        assert code == 0
        assert document["totals"]["empty_returns"] == 5
        assert document["class_points"]["train"]["car"] == 40
        assert document["class_points"]["val"]["(ignored)"] == 6  # five of them empty returns
        assert sum(document["class_points"]["val"].values()) == 10
        assert {
            "split": "val", "sequence": "08",
            "message": "08/000000 has no point with a position: it teaches nothing",
        } in document["notes"]  # fmt: skip

    def test_wrong_root_is_a_document_too(self, root: Path, capsys: Capture) -> None:
        code, document = call_json(capsys, "semantic_kitti", root / "sequences")
        assert (code, document["ok"], document["totals"]["scans"]) == (3, False, 0)
        assert f"give {root} as the root" in document["problems"][0]["message"]


class TestUsage:
    @pytest.mark.parametrize("dataset", ["semantic_kitti", "simulated"])
    def test_a_check_makes_nothing(self, dataset: str, tmp_path: Path, capsys: Capture) -> None:
        code, _, err = call(capsys, dataset, tmp_path / "typo")
        assert code == 3
        expected = {
            "semantic_kitti": "typo is not a folder: expected ROOT/sequences/00/velodyne",
            "simulated": "typo does not exist: `rangeseg-data simulate",
        }
        assert expected[dataset] in err
        assert not (tmp_path / "typo").exists()

    def test_scans_of_ones_own_need_a_description(self, root: Path, capsys: Capture) -> None:
        code, _, err = call(capsys, "custom", root)
        assert code == 2
        assert f"`rangeseg-data stats custom {root} > mine.yaml` writes one" in err
        assert err.count("\n") == 1

    def test_unknown_names(self, root: Path, capsys: Capture) -> None:
        code, _, err = call(capsys, "semantic_kity", root)
        assert code == 2
        assert "unknown data set 'semantic_kity' (did you mean 'semantic_kitti'?)" in err
        code, _, err = call(capsys, "semantic_kitti", root, "--split", "valid")
        assert code == 2
        assert "unknown split 'valid'" in err

    def test_workers(self, root: Path, capsys: Capture) -> None:
        assert call(capsys, "semantic_kitti", root, "--workers", 1)[0] == 0
        code, _, err = call(capsys, "semantic_kitti", root, "--workers", 0)
        assert code == 2
        assert "0 workers cannot check anything" in err

    def test_a_configuration_and_its_root(
        self, root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(root.parent)
        (root.parent / "data").mkdir()
        root.rename(root.parent / "data" / "semantic_kitti")  # where the configuration says
        code, document = call_json(capsys, REPOSITORY / "configs" / "semantic_kitti.yaml")
        assert (code, document["totals"]["scans"]) == (0, 22)

    def test_torch_is_not_loaded(self, root: Path) -> None:
        code = (
            "import sys; from data_tools.cli import main\n"
            f"assert main(['check', 'semantic_kitti', {str(root)!r}, '--deep']) == 0\n"
            "heavy = {'torch', 'open3d', 'nuscenes', 'matplotlib'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.real_data
def test_real_scans_deep(real_data: Path, capsys: Capture) -> None:
    mini = real_data / "semantickitti_mini"
    code, out, _ = call(capsys, "semantic_kitti", mini, "--deep", "--split", "val")
    assert code == 0
    (note,) = (line for line in out.splitlines() if line.startswith("note:"))
    assert "the split val is partial: 5 of 4,071 scans, 1 of 1 sequences; missing: 08/00" in note
