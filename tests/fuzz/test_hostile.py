"""Files of somebody who means harm: nothing runs, nothing is written elsewhere, memory stays."""

import gzip
import io
import json
import os
import pickle
import re
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError

from data_tools.cli import main as prepare
from rangeseg.cli import main
from rangeseg.datasets.nuscenes.index import index_path
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.scan_files import MOST_POINTS, count_points, read_points
from rangeseg.datasets.sequences import Layout
from rangeseg.datasets.splits import read_split
from rangeseg.engine.checkpoint import read_checkpoint
from rangeseg.errors import CheckpointError, ConfigError, DataError
from rangeseg.runs.config import load_config, load_run_config
from tests.data_tools.kitti_layout import write_root

CPU = torch.device("cpu")
TOKEN, OTHER = "0" * 32, "f" * 32
INDEX = {
    "format": 1, "version": "v1.0-mini", "data": None,
    "scenes": {"scene-0061": {"split": "mini_train", "scans": [[TOKEN, TOKEN, "a", "b", 0]]}},
}  # fmt: skip


@pytest.fixture
def small_memory() -> Iterator[None]:
    """Nothing in the test may hold more than 100 MiB."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def bombs(marker: Path, sound: dict[str, Any]) -> dict[str, bytes]:
    """The bomb as a pickle, in PyTorch's formats, and inside a sound checkpoint."""
    contents = {"pickle": pickle.dumps(Bomb(marker))}
    for name, value, new in (
        ("legacy", Bomb(marker), False), ("alone", Bomb(marker), True),
        ("inside", {**sound, "training": {"optimiser": Bomb(marker)}}, True),
    ):  # fmt: skip
        file = io.BytesIO()
        torch.save(value, file, _use_new_zipfile_serialization=new)
        contents[name] = file.getvalue()
    return contents


class TestCheckpoints:
    @pytest.mark.parametrize("kind", ["pickle", "legacy", "alone", "inside"])
    def test_a_bomb_does_not_go_off(
        self, kind: str, simulated_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = tmp_path / "run"
        shutil.copytree(simulated_run, run)
        sound = torch.load(run / "last.pt", weights_only=True)
        content = bombs(tmp_path / "went_off", sound)[kind]
        if kind == "pickle":  # it would go off if somebody opened it
            pickle.loads(content)
            (tmp_path / "went_off").rmdir()
        for path in run.glob("*.pt"):
            path.write_bytes(content)
        assert main(["evaluate", str(run)]) == 3
        assert "last.pt is damaged or not a checkpoint" in capsys.readouterr().err
        assert not (tmp_path / "went_off").exists()

    def test_packed_tensors_are_not_unpacked(self, tmp_path: Path, small_memory: None) -> None:
        with zipfile.ZipFile(tmp_path / "last.pt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data/0", bytes(10 << 20))
        with pytest.raises(CheckpointError, match=r"last\.pt .*packed entries"):
            read_checkpoint(tmp_path / "last.pt", CPU)

    def test_a_flipped_bit_is_seen(self, simulated_run: Path, tmp_path: Path) -> None:
        content = bytearray((simulated_run / "last.pt").read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "last.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"checksum of .* is wrong"):
            read_checkpoint(tmp_path / "last.pt", CPU)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": torch.zeros(2)}, r"not a rangeseg checkpoint of format \d \(found: none"),
            ({"format": 1}, r"of format \d \(found: 1\)"),
            ({"step": -1}, "no sound field 'step'"),
            ({"identity": None}, "no sound field 'identity'"),
            ({"training": []}, "no sound field 'training'"),
        ],
    )
    def test_fields_of_another_kind(
        self, change: dict[str, Any], message: str, simulated_run: Path, tmp_path: Path
    ) -> None:
        state = torch.load(simulated_run / "last.pt", weights_only=True)
        torch.save(state | change, tmp_path / "last.pt")
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(tmp_path / "last.pt", CPU)

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("model: {width: 8}", r"belongs to model\.width 4, but the configuration asks for 8"),
            ("train: {learning_rate: 1}", r"belongs to train\.learning_rate"),
        ],
    )
    def test_a_mismatch_names_the_field(
        self, setting: str, message: str, simulated_run: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        run = tmp_path / "run"
        shutil.copytree(simulated_run, run)
        values = yaml.safe_load((run / "config.yaml").read_text())
        for group, settings in yaml.safe_load(setting).items():
            values[group] |= settings
        (run / "config.yaml").write_text(yaml.safe_dump(values))
        assert main(["evaluate", str(run)]) == 3
        (line,) = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
        assert re.search(message, line)

    def test_steps_that_were_never_trained(
        self, simulated_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = tmp_path / "run"
        shutil.copytree(simulated_run, run)
        state = torch.load(run / "last.pt", weights_only=True)
        training = state["training"] | {"step": 10**9}
        torch.save(state | {"step": 10**9, "training": training}, run / "last.pt")
        (run / "result.json").unlink()
        assert main(["evaluate", str(run)]) == 3
        assert "last.pt has 1000000000 of 2 steps" in capsys.readouterr().err
        assert not (run / "result.json").exists()

    def test_moments_of_another_shape_end_a_resume_with_one_line(
        self, simulated_root: Path, simulated_run: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        run = tmp_path / "run"
        shutil.copytree(simulated_run, run)
        state = torch.load(run / "last.pt", weights_only=True)
        state["training"]["optimiser"]["student.stem.0.0.weight"]["exp_avg"] = torch.zeros(3)
        torch.save(state, run / "last.pt")
        assert main([*two_steps(simulated_root, run), "--resume"]) == 3
        assert "last.pt does not fit the run: exp_avg of student" in capsys.readouterr().err

    def test_another_list_of_labelled_scans(
        self, simulated_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = tmp_path / "run"
        shutil.copytree(simulated_run, run)
        (run / "labelled.txt").write_text("00/000000\n")
        assert main(["evaluate", str(run)]) == 3
        assert "last.pt belongs to labelled '" in capsys.readouterr().err


@pytest.fixture(scope="module")
def simulated_run(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    run = tmp_path_factory.mktemp("hostile") / "run"
    assert main(two_steps(simulated_root, run)) == 0
    return run


def two_steps(root: Path, run: Path) -> list[str]:
    """The words of a training."""
    settings = [
        f"dataset.root={root}", "range_image.width=256", "range_image.crop_width=64",
        "model.width=4", "train.steps=2", "train.batch_size=2",
    ]  # fmt: skip
    config = Path(__file__).parents[2] / "configs" / "simulated.yaml"
    sets = [word for setting in settings for word in ("--set", setting)]
    method = ["--method", "supervised", "--labels", "10%", "--out", str(run)]
    return ["train", str(config), *sets, *method]


class TestConfigurations:
    @pytest.mark.parametrize(
        "text",
        [
            "dataset: !!python/object/apply:os.mkdir ['MARKER']",
            "!!python/object/apply:subprocess.check_call [[mkdir, 'MARKER']]",
            "dataset: !!python/object/new:os.system ['mkdir MARKER']",
        ],
    )
    def test_python_tags_are_refused(self, text: str, tmp_path: Path) -> None:
        path, marker = tmp_path / "config.yaml", tmp_path / "marker"
        path.write_text(text.replace("MARKER", str(marker)))
        with pytest.raises(ConfigError, match=r"config\.yaml is not YAML: could not determine"):
            load_config(path)
        assert not marker.exists()

    def test_python_tags_are_refused_in_overrides(self, tmp_path: Path) -> None:
        config = Path(__file__).parents[2] / "configs" / "simulated.yaml"
        override = f"dataset.root=!!python/object/apply:os.mkdir ['{tmp_path / 'marker'}']"
        with pytest.raises(ConfigError, match=r"--set dataset\.root=.* is not YAML"):
            load_config(config, [override])
        assert not (tmp_path / "marker").exists()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: 2026-13-45", "month must be in"),
            ("a: !!int x", "invalid literal for int"),
            ("a: " + "1:" * 300 + "59.0", "is not YAML"),
            ("a: " + "[" * 3000, "brackets are nested more than 20 deep"),
            ("- " * 3000, "is nested too deeply"),
            ("a: 0x" + "f" * 5000, "wrong setting"),
            ("# " + "x" * 300_000, "longer than 256 KiB"),
        ],
    )
    def test_what_pyyaml_stumbles_over(self, text: str, message: str, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=message) as error:
            load_config(path)
        assert str(path) in str(error.value)

    def test_lists_that_name_each_other_are_not_written_out(self, tmp_path: Path) -> None:
        rows = ["- &a0 [x]"] + [f"- &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
        (tmp_path / "config.yaml").write_text("dataset:\n" + "\n".join(rows))
        with pytest.raises(ConfigError) as error:
            load_config(tmp_path / "config.yaml")
        assert len(str(error.value)) < 2000

    @pytest.mark.parametrize("root", ['"a\\0b"', '"\\ud800"', "x" * 5000])
    def test_a_root_that_is_no_path(self, root: str, tmp_path: Path) -> None:
        shipped = (Path(__file__).parents[2] / "configs" / "simulated.yaml").read_text()
        path = tmp_path / "config.yaml"
        path.write_text(shipped.replace("root: data/simulated", f"root: {root}"))
        with pytest.raises(ConfigError, match=r"dataset\.root"):
            load_config(path)

    @pytest.mark.parametrize(
        "layout",
        [
            {"labels_suffix": "/../../../escaped"}, {"points_suffix": "\\..\\x"},
            {"labels_folder": "../../elsewhere"}, {"points_folder": "/etc"},
        ],
    )  # fmt: skip
    def test_a_layout_stays_in_its_sequence(self, layout: dict[str, str]) -> None:
        with pytest.raises(ValidationError, match=r"a folder below|names end with"):
            Layout.model_validate(layout)


def test_a_run_of_an_unknown_method_names_its_file(simulated_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = (simulated_run / "config.yaml").read_text()
    path.write_text(text.replace("method: supervised", "method: average"))
    with pytest.raises(
        ConfigError, match=r"config\.yaml: .*\n.*run\.method: unknown method 'average'"
    ):
        load_run_config(path)


class TestLists:
    @pytest.mark.parametrize(
        "line",
        [
            "../../escaped", "00/../../escaped", "/etc/passwd", "00/..", "../000000",
            "sequences/../velodyne/000000.bin", "..\\..\\escaped", "00/000000/../../../x",
        ],
    )  # fmt: skip
    def test_a_way_out_is_no_scan(self, line: str, tmp_path: Path) -> None:
        root, out = write_root(tmp_path / "kitti"), tmp_path / "out"
        listed = tmp_path / "list.txt"
        listed.write_text(f"00/000000\n{line}\n")
        with pytest.raises(DataError, match=r"list\.txt:2: .* is not a scan id"):
            read_split(listed)
        before = sorted(tmp_path.rglob("*"))
        words = ["split", "semantic_kitti", str(root), "--import", str(listed), "--out", str(out)]
        assert prepare(words) == 3
        assert sorted(tmp_path.rglob("*")) == before

    def test_of_a_path_only_the_names_are_kept(self, tmp_path: Path) -> None:
        (tmp_path / "list.txt").write_text("/../../../sequences/00/velodyne/000001.bin\n")
        assert read_split(tmp_path / "list.txt") == ["00/000001"]

    def test_a_packed_list_does_not_fill_the_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "list.gz"
        path.write_bytes(gzip.compress(bytes(200 << 20), 9))
        assert path.stat().st_size < 1 << 20
        tracemalloc.start()
        with pytest.raises(DataError, match=r"list\.gz is longer than 64 MiB unpacked"):
            read_split(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200 << 20


class TestIndex:
    def write(self, root: Path, change: Callable[[dict[str, Any]], None]) -> NuScenes:
        index = json.loads(json.dumps(INDEX))
        change(index)
        index_path(root, "v1.0-mini").write_text(json.dumps(index))
        return NuScenes(root)

    def test_a_sound_one(self, tmp_path: Path) -> None:
        source = self.write(tmp_path, lambda index: None)
        assert source.scan_ids("train") == [TOKEN]

    @pytest.mark.parametrize("place", [0, 1, 2, 3])
    @pytest.mark.parametrize(
        "name", ["../../escaped", "/etc/passwd", "a/../../b", "", "a\0b", "x" * 5000]
    )
    def test_no_name_leads_out_of_the_folder(self, place: int, name: str, tmp_path: Path) -> None:
        def change(index: dict[str, Any]) -> None:
            index["scenes"]["scene-0061"]["scans"][0][place] = name

        with pytest.raises(DataError, match=r"rangeseg_index_v1\.0-mini\.json is damaged"):
            self.write(tmp_path, change).scan_ids("train")

    @pytest.mark.parametrize("folder", ["/nowhere", "x" * 5000, "a\0b"])
    def test_data_that_are_not_there(self, folder: str, tmp_path: Path) -> None:
        source = self.write(tmp_path, lambda index: index.update(data=folder))
        with pytest.raises(
            DataError, match=r"mini\.json says that the data are in .*, which is no"
        ):
            source.scan_ids("train")

    @pytest.mark.parametrize("place", [0, 1])
    def test_two_scans_of_one_name(self, place: int, tmp_path: Path) -> None:
        def change(index: dict[str, Any]) -> None:
            scans = index["scenes"]["scene-0061"]["scans"]
            scans.append([OTHER, OTHER, "c", "d", 1])
            scans[1][place] = TOKEN

        with pytest.raises(DataError, match="2 scans have 1 different tokens"):
            self.write(tmp_path, change).scan_ids("train")

    @pytest.mark.parametrize("version", ["v1.0-trainval", "no such version"])
    def test_of_another_version(self, version: str, tmp_path: Path) -> None:
        source = self.write(tmp_path, lambda index: index.update(version=version))
        with pytest.raises(DataError, match=f"mini.json is of '{version}'"):
            source.scan_ids("train")


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


class TestPoints:
    @pytest.mark.parametrize(
        "content",
        [
            header("(99999999999, 4)"), header("(4611686018427387904, 4)"), header("(-1, 4)"),
            header("(True, 4)"), header("(" * 60), header("()"), header("'a'"),
            header("(2, 4)", "'|O'"), header("(2, 4)", "'x'"), header("(2, 4)", "[('a', '<f4')]"),
            b"\x93NUMPY\x09\x00",
            header("(2, 4)") + bytes(31), header("(2, 4)") + bytes(33),
        ],
    )  # fmt: skip
    def test_npy_headers_that_lie(self, content: bytes, tmp_path: Path, small_memory: None) -> None:
        path = tmp_path / "000000.npy"
        path.write_bytes(content)
        with pytest.raises(DataError) as error:
            read_points(path, 4)
        assert str(path) in str(error.value)

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "<f2"])
    def test_npy_of_any_float_and_order(self, dtype: str, order: Any, tmp_path: Path) -> None:
        values = np.random.default_rng(0).normal(size=(7, 5)).astype(dtype)
        np.save(tmp_path / "a.npy", np.asarray(values, order=order))
        points = read_points(tmp_path / "a.npy", 5)
        assert np.array_equal(points, values.astype(np.float32))
        assert points.flags.writeable
        assert points.flags.c_contiguous

    def test_a_file_of_a_tebibyte_is_not_read(self, tmp_path: Path, small_memory: None) -> None:
        path = tmp_path / "000000.bin"
        path.touch()
        os.truncate(path, 1 << 40)  # takes no room on the disk
        for read in (count_points, read_points):
            with pytest.raises(DataError, match=r"000000\.bin has .* more than one turn"):
                read(path, 4)

    def test_the_limit_is_far_beyond_any_sensor(self) -> None:
        assert MOST_POINTS > 50 * 128 * 2048
