"""From PCD files of a VLP-16, named by their times in folders with blanks, to predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_tools.cli import main as prepare
from rangeseg.cli import main
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.formats import read_fields
from rangeseg.datasets.layout import Layout

TIMES = ["1673400471.1", "1673400471.15", "1673400471.2", "1673400471.25"]


def write_drives(real_data: Path, root: Path) -> Path:
    """Two drives of four copies each; three heights are the classes."""
    scan = real_data / "formats" / "vlp16_binary_ring.pcd"
    height = read_fields(scan, Layout())["z"]
    labels = np.where(height < -0.5, 1, np.where(height > 1.0, 3, 2)).astype(np.uint8)
    for drive in ("drive 1", "drive 2"):
        (root / drive).mkdir(parents=True)
        for time in TIMES:
            shutil.copyfile(scan, root / drive / f"{time}.pcd")
            np.save(root / drive / f"{time}.npy", labels)
    return root


@pytest.mark.slow
@pytest.mark.real_data
def test_pcd_files_of_a_vlp16(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_drives(real_data, tmp_path / "my drives")
    assert prepare(["stats", "custom", str(root)]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    description = config["dataset"]["description"]
    assert description["layout"] == {
        "sequences_folder": ".", "points_folder": ".", "points_suffix": ".pcd",
        "fields": {"ring": "channel"}, "intensity_max": 255.0, "ring_zero": "lowest",
        "labels_folder": ".", "labels_suffix": ".npy", "label_type": "uint8",
    }  # fmt: skip
    assert description["sensor"]["beams"] == 16
    assert description["sensor"]["rows"] == "ring"
    source = Custom(root, Description.model_validate(description))
    assert source.sequence_ids("drive 1") == [f"drive 1/{time}" for time in TIMES]
    assert source.times("drive 1")["drive 1/1673400471.15"] == 1673400471.15

    path = tmp_path / "mine.yaml"
    config["range_image"] |= {"width": 256, "crop_width": 64}
    config |= {"model": {"width": 4}, "train": {"steps": 3, "batch_size": 2, "workers": 0}}
    path.write_text(yaml.safe_dump(config))
    assert prepare(["check", str(path), "--deep"]) == 0
    words = ["split", str(path), "--labels", "50%", "--out", str(tmp_path / "lists")]
    assert prepare(words) == 0
    (labelled,) = (tmp_path / "lists").iterdir()
    run = tmp_path / "run"
    words = ["train", str(path), "--method", "supervised", "--labels", str(labelled)]
    assert main([*words, "--out", str(run)]) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["scans"] == 4
    assert result["protocol"]["rows"] == "ring"
    assert prepare(["pack", str(path), "--out", str(tmp_path / "mine.pack")]) == 0
    words = ["predict", str(run), "--split", "val", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    for time in TIMES:
        file = tmp_path / "out" / "drive 2" / "predictions" / f"{time}.label"
        assert set(np.unique(np.fromfile(file, np.uint8))) <= {1, 2, 3}
        assert file.stat().st_size == 14_831
