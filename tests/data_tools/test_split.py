"""``rangeseg-data split``: lists that are drawn, imported, checked."""

from __future__ import annotations

import gzip
import pickle
from fractions import Fraction
from pathlib import Path

import pytest

from data_tools.cli import main
from rangeseg.datasets.nuscenes.index import Index, IndexedScan, IndexedScene, write_index
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.split_files import read_split
from rangeseg.datasets.splits import draw_sequences, labelled_by_sequence
from tests.data_tools.kitti_layout import write_root
from tests.datasets.nuscenes_format import write_nuscenes

Capture = pytest.CaptureFixture[str]
LASERMIX = "LaserMix (Kong et al. 2023) uniform"
CUSTOM = """
dataset:
  name: custom
  root: {root}
  description:
    classes:
      - {{name: car, ids: [10], colour: [0, 0, 255]}}
    ignored_ids: [0]
    sensor: {{beams: 32, fov_up_deg: 10, fov_down_deg: -30}}
    sequences: {{train: ["00", "01"], val: ["08"]}}
    statistics: {{range: [10, 10]}}
range_image: {{height: 32, width: 512, channels: [range]}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "kitti")


def call(capsys: Capture, *words: object) -> tuple[int, str, str]:
    """Run the command; returns its exit code, stdout and stderr."""
    code = main(["split", *[str(word) for word in words]])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


class TestDraw:
    def test_nested_lists(self, root: Path, tmp_path: Path, capsys: Capture) -> None:
        out_folder = tmp_path / "lists"
        arguments = ("semantic_kitti", root, "--out", out_folder, "--seed", 3)
        code, out, _ = call(capsys, *arguments, "--labels", "10%", "0.5")
        assert code == 0
        few, half = (
            out_folder / f"semantic_kitti_uniform_{name}_seed3.txt" for name in ("10pct", "50pct")
        )
        lines = out.splitlines()
        assert lines[0].startswith(f"{few}: 2 of 20 training scans labelled (10.00%), 2 with an un")
        assert lines[1].startswith(f"{half}: 10 of 20 training scans labelled (50.00%), ")
        assert set(read_split(few)) < set(read_split(half))
        comment = [line for line in few.read_text().splitlines() if line.startswith("#")]
        assert comment == [
            "# semantic_kitti: 2 of 20 training scans labelled (10.00%), "
            "2 with an unlabelled neighbour in time",
            "# drawn by: rangeseg-data split --labels 10% --strategy uniform --seed 3",
        ]

        drawn = half.read_bytes()
        half.unlink()  # as where a kill came between the two
        few.write_text("# with a remark\n" + few.read_text())
        before = few.read_text()
        code, out, _ = call(capsys, *arguments, "--labels", "10%", "50%")
        assert code == 0
        assert out.splitlines() == [f"{lines[0]}, there already", lines[1]]
        assert (few.read_text(), half.read_bytes()) == (before, drawn)

        half.unlink()  # one of two is there with other scans: neither is written
        few.write_text("00/000000\n")
        code, out, err = call(capsys, *arguments, "--labels", "50%", "10%")
        assert (code, out) == (2, "")
        assert "10pct_seed3.txt exists with other scans and is not overwritten" in err
        assert few.read_text() == "00/000000\n"
        assert not half.exists()

    @pytest.mark.parametrize(
        ("options", "block", "name"),
        [((), None, "sequence"), (("--block", 2), 2, "sequence_block2")],
    )
    def test_by_sequence(
        self, options: tuple[object, ...], block: int | None, name: str,
        tmp_path: Path, capsys: Capture,
    ) -> None:  # fmt: skip
        root = write_root(tmp_path / "kitti", frames=6)
        code, out, _ = call(
            capsys, "semantic_kitti", root, "--labels", "25%", "--out", tmp_path / "lists",
            "--strategy", "sequence", *options,
        )  # fmt: skip
        assert code == 0
        path = tmp_path / "lists" / f"semantic_kitti_{name}_25pct_seed0.txt"
        sequences = labelled_by_sequence(SemanticKitti(root))
        drawn = read_split(path)
        assert drawn == draw_sequences(sequences, Fraction(1, 4), 0, block)
        words = " ".join(["--strategy sequence", *map(str, options)])
        assert f"split --labels 25% {words} --seed 0\n" in path.read_text()
        undrawn = {i for ids in sequences.values() for i in ids} - set(drawn)
        others = {f"{i[:2]}/{int(i[3:]) + n:06d}" for i in undrawn for n in (-1, 1)}
        neighbours = len(others & set(drawn))
        assert neighbours == 1 if block is None else 1 < neighbours < 15
        assert out == (
            f"{path}: 15 of 60 training scans labelled (25.00%), "
            f"{neighbours} with an unlabelled neighbour in time\n"
        )

    def test_from_scans_that_have_labels(self, root: Path, tmp_path: Path, capsys: Capture) -> None:
        (root / "sequences/00/labels/000000.label").unlink()
        (root / "sequences/01/labels/000001.label").unlink()
        config = write(tmp_path / "mine.yaml", CUSTOM.format(root=root))
        for strategy in ("uniform", "sequence"):
            code, out, err = call(
                capsys, config, "--labels", "100%", "--out", tmp_path / "lists",
                "--strategy", strategy,
            )  # fmt: skip
            assert code == 0, err
            assert "2 of 4 training scans labelled (50.00%, 2 have labels), 2 with an unl" in out
            path = tmp_path / "lists" / f"custom_{strategy}_100pct_seed0.txt"
            assert read_split(path) == ["00/000001", "01/000000"]


class TestCheck:
    def test_what_was_drawn(self, root: Path, tmp_path: Path, capsys: Capture) -> None:
        draw = ("--labels", "10%", "50%", "--out", tmp_path)
        assert call(capsys, "semantic_kitti", root, *draw)[0] == 0
        few, half = (tmp_path / f"semantic_kitti_uniform_{n}_seed0.txt" for n in ("10pct", "50pct"))
        code, out, _ = call(capsys, "semantic_kitti", root, "--check", half, few)
        assert code == 0
        lines = out.splitlines()
        assert len(lines) == 3
        assert lines[0].startswith(f"{half}: 10 of 20 training scans labelled (50.00%), ")
        assert lines[1].endswith("in time; no published list known here")
        assert lines[2] == f"{few} is nested in {half}"

    def test_nesting(self, root: Path, tmp_path: Path, capsys: Capture) -> None:
        one = write(tmp_path / "one.txt", "00/000000", "01/000000")
        two = write(tmp_path / "two.txt", "01/000000", "02/000000", "03/000000")
        three = write(tmp_path / "three.txt", "01/000000", "00/000000", "04/000000", "05/000000")
        code, out, _ = call(capsys, "semantic_kitti", root, "--check", one, two, three)
        assert code == 0
        assert out.splitlines()[3:] == [
            f"{one} is not nested in {two}, which has 1 of its 2 scans",
            f"{one} is nested in {three}",
            f"{two} is not nested in {three}, which has 1 of its 3 scans",
        ]

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            (["00/000000", "08/000000"], "1 of 2 scans are not in the train split (20 scans)"),
            (["../../x"], "list.txt:1: '../../x' is not a scan id"),
        ],
    )
    @pytest.mark.parametrize("mode", ["--check", "--import"])
    def test_bad_list(
        self, mode: str, lines: list[str], message: str,
        root: Path, tmp_path: Path, capsys: Capture,
    ) -> None:  # fmt: skip
        sound = write(tmp_path / "sound.txt", "00/000000")
        path = write(tmp_path / "list.txt", *lines)
        out_folder = ["--out", tmp_path / "lists"] if mode == "--import" else []
        code, out, err = call(capsys, "semantic_kitti", root, mode, sound, path, *out_folder)
        assert (code, out) == (3, "")
        assert message in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert not (tmp_path / "lists").exists()  # not even the sound one was imported


class TestImport:
    def test_into_our_format(self, root: Path, tmp_path: Path, capsys: Capture) -> None:
        theirs = tmp_path / "theirs.txt.gz"
        theirs.write_bytes(
            gzip.compress(
                b"/sequences/03/velodyne/000001.bin\r\n"
                b"D:\\kitti\\sequences\\01\\velodyne\\000000.bin\r\n02/000000\r\n"
            )
        )
        code, out, _ = call(
            capsys, "scribble_kitti", root, "--import", theirs, "--out", tmp_path / "lists"
        )
        assert code == 0
        ours = tmp_path / "lists" / "theirs.txt"
        share = "3 of 20 training scans labelled (15.00%), 3 with an unlabelled neighbour in time"
        assert out == f"{ours}: {share}; no published list known here\n"
        assert ours.read_text().splitlines() == [
            f"# scribble_kitti: {share}",
            "# imported from theirs.txt.gz: no published list known here",
            "01/000000",
            "02/000000",
            "03/000001",
        ]
        before = ours.read_bytes()
        again = ("scribble_kitti", root, "--import", theirs, "--out", tmp_path / "lists")
        code, out, _ = call(capsys, *again)
        assert code == 0
        assert out == f"{ours}: {share}; no published list known here, there already\n"
        assert ours.read_bytes() == before
        ours.write_text("01/000000\n")
        code, _, err = call(capsys, *again)
        assert code == 2
        assert "theirs.txt exists with other scans and is not overwritten" in err
        assert ours.read_text() == "01/000000\n"

    def test_infos_of_mmdetection3d(self, root: Path, tmp_path: Path, capsys: Capture) -> None:
        theirs = tmp_path / "semantickitti_infos_train.10.pkl"
        infos = [
            {"lidar_points": {"lidar_path": f"sequences/0{s}/velodyne/000001.bin"}} for s in (3, 0)
        ]
        theirs.write_bytes(pickle.dumps({"metainfo": {}, "data_list": infos}, protocol=2))
        words = ("semantic_kitti", root, "--import", theirs, "--out", tmp_path / "lists")
        code, out, err = call(capsys, *words)
        assert code == 0, err
        ours = tmp_path / "lists" / "semantickitti_infos_train.10.txt"
        assert out.startswith(f"{ours}: 2 of 20 training scans labelled (10.00%)")
        assert read_split(ours) == ["00/000001", "03/000001"]
        theirs.write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
        code, _, err = call(capsys, *words)
        assert code == 3
        assert f"error: {theirs} is a pickle that wants to call os.system, which no list" in err
        assert err.count("\n") == 1

    def test_nuscenes_infos_without_tokens(self, tmp_path: Path, capsys: Capture) -> None:
        root = tmp_path / "nuscenes"
        write_nuscenes(root, scenes=["scene-0061"], firings=4)
        assert main(["index", "nuscenes", str(root)]) == 0
        source = NuScenes(root)
        ids = source.scan_ids("train")
        infos = [{"lidar_path": f"./data/{source.paths(i)[0].relative_to(root)}"} for i in ids]
        theirs = tmp_path / "infos.pkl"
        theirs.write_bytes(pickle.dumps({"infos": infos}))
        capsys.readouterr()
        words = ("nuscenes", root, "--import", theirs, "--out", tmp_path / "lists")
        code, _, err = call(capsys, *words)
        assert code == 0, err
        assert read_split(tmp_path / "lists" / "infos.txt") == sorted(ids)

    def test_two_of_one_name(self, root: Path, tmp_path: Path, capsys: Capture) -> None:
        (tmp_path / "a").mkdir()
        one, two = (write(tmp_path / n, "00/000000") for n in ("list.txt", "a/list"))
        code, _, err = call(
            capsys, "semantic_kitti", root, "--import", one, two, "--out", tmp_path / "lists"
        )
        assert code == 2
        assert f"{one} and {two} would both become" in err
        assert not (tmp_path / "lists").exists()


class TestUsage:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--labels", "1%"], "missing --out"),
            (["--import", "list.txt"], "missing --out"),
            (["--labels", "20", "--out", "lists"], "did you mean 20%?"),
            (["--labels", "20%", "--out", "lists", "--block", "5"], "needs --strategy sequence"),
            (
                ["--labels", "20%", "--out", "lists", "--strategy", "sequence", "--block", "0"],
                "--block 0 is no number of scans",
            ),
            (["--check", "list.txt", "--out", "lists"], "--check writes nothing"),
            (["--check", "list.txt", "--seed", "0"], "--seed is for drawing lists"),
            (
                ["--import", "list.txt", "--out", "lists", "--strategy", "uniform"],
                "--strategy is for drawing lists",
            ),
        ],
    )
    def test_refused(self, words: list[str], message: str, root: Path, capsys: Capture) -> None:
        code, out, err = call(capsys, "semantic_kitti", root, *words)
        assert (code, out) == (2, "")
        assert message in err

    def test_one_of_three(self, root: Path, capsys: Capture) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["split", "semantic_kitti", str(root)])
        assert "one of the arguments --labels --import --check is required" in (
            capsys.readouterr().err
        )


@pytest.mark.real_data
class TestPublishedLists:
    RATIOS = (1, 10, 20, 50)

    @pytest.mark.slow
    def test_semantic_kitti(self, real_data: Path, tmp_path: Path, capsys: Capture) -> None:
        folder = real_data / "splits" / "lasermix_uniform"
        lists = [folder / f"semantickitti_{ratio}pct.txt" for ratio in self.RATIOS]
        listed = {scan_id for path in lists for scan_id in path.read_text().split()}
        for scan_id in listed:
            sequence, frame = scan_id.split("/")
            points = tmp_path / "kitti" / "sequences" / sequence / "velodyne"
            points.mkdir(parents=True, exist_ok=True)
            (points / f"{frame}.bin").touch()
        words = ("semantic_kitti", tmp_path / "kitti", "--import", *lists)
        code, out, err = call(capsys, *words, "--out", tmp_path / "lists")
        assert code == 0, err
        lines = out.splitlines()
        for ratio, path, line in zip(self.RATIOS, lists, lines, strict=False):
            ours = tmp_path / "lists" / path.name
            assert read_split(ours) == sorted(read_split(path))
            assert f"{LASERMIX}, SemanticKITTI {ratio} %" in ours.read_text().splitlines()[1]
            assert line.startswith(f"{ours}: {len(read_split(path))} of {len(listed)} training")
            assert line.endswith(f"; {LASERMIX}, SemanticKITTI {ratio} %")
        one, ten, twenty, fifty = lists
        assert lines[4:] == [
            f"{one} is nested in {ten}",
            f"{one} is nested in {twenty}",
            f"{one} is nested in {fifty}",
            f"{ten} is nested in {twenty}",
            f"{ten} is not nested in {fifty}, which has 1869 of its 1913 scans",
            f"{twenty} is not nested in {fifty}, which has 3118 of its 3826 scans",
        ]
        # The same lists again, through what was written.
        again = [tmp_path / "lists" / path.name for path in lists]
        code, out, _ = call(capsys, *words[:2], "--check", *again)
        assert code == 0
        assert out.count(LASERMIX) == 4

    def test_nuscenes(self, real_data: Path, tmp_path: Path, capsys: Capture) -> None:
        folder = real_data / "splits" / "lasermix_uniform"
        lists = [folder / f"nuscenes_{ratio}pct.txt.gz" for ratio in self.RATIOS]
        tokens = sorted({token for path in lists for token in read_split(path)})
        scans = tuple(IndexedScan(token, token, "no.bin", None, 0) for token in tokens)
        scenes = {"scene-0001": IndexedScene(split="train", scans=scans)}
        root = tmp_path / "nuscenes"
        root.mkdir()
        write_index(Index(format=1, version="v1.0-trainval", data=None, scenes=scenes), root)
        code, out, err = call(
            capsys, "nuscenes", root, "--import", *lists, "--out", tmp_path / "lists"
        )
        assert code == 0, err
        for ratio, path, line in zip(self.RATIOS, lists, out.splitlines(), strict=False):
            ours = tmp_path / "lists" / f"nuscenes_{ratio}pct.txt"
            assert read_split(ours) == sorted(read_split(path))
            assert line.startswith(f"{ours}: {len(read_split(path))} of {len(tokens)} training")
            assert line.endswith(f"; {LASERMIX}, nuScenes {ratio} %")
        kitti = folder / "semantickitti_1pct.txt"
        code, out, err = call(capsys, "nuscenes", root, "--check", kitti)
        assert (code, out) == (3, "")
        assert f"the list is {LASERMIX}, SemanticKITTI 1 %: use a list of this data set" in err
