"""The README's section on seeing: its commands, and the packages it names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

import data_tools.cli
from rangeseg.cli import main
from rangeseg.viewer.open3d_libraries import APT
from tests.test_readme import ROOT, commands, section

PAGE = "rangeseg/viewer/README.md"
RUN = Path("runs/semantic_kitti/cps/10pct/seed0")


@pytest.mark.slow
@pytest.mark.usefixtures("drawing", "no_display")
def test_the_section_on_seeing(
    simulated_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    shutil.copytree(simulated_root / "sequences", "data/semantic_kitti/sequences")
    for number in range(13, 22):  # the benchmark's test sequences
        shutil.copytree(
            "data/semantic_kitti/sequences/11", f"data/semantic_kitti/sequences/{number}"
        )
    settings = ["range_image.height=32", "range_image.width=256", "range_image.crop_width=64"]
    settings += ["model.width=4", "train.steps=2", "train.batch_size=2", "train.workers=0"]
    settings += ["train.lovasz_weight=0"]
    words = ["train", "configs/semantic_kitti.yaml", "--method", "cps", "--labels", "10%"]
    assert main([*words, *[w for s in settings for w in ("--set", s)]]) == 0
    assert main(["predict", str(RUN), "--split", "test", "--out", "submission"]) == 0
    words = ["propagate", "semantic_kitti", "data/semantic_kitti", "--labels", "10%"]
    assert data_tools.cli.main([*words, "--reach", "2", "--out", "propagated"]) == 0

    seen = [
        words
        for words in commands(section("View", "rangeseg/viewer/README.md"))
        if words[0] == "rangeseg"
    ]
    assert len(seen) >= 8
    for _, *arguments in seen:
        capsys.readouterr()
        code, captured = main(arguments), capsys.readouterr()
        if arguments[0] == "view" and not {"--save", "--video"} & set(arguments):
            assert code == 2
            assert "there is no display to open a window on" in captured.err
            continue
        assert code == 0, f"{arguments}\n{captured.out}{captured.err}"
    for name in (
        "error.png",
        "strips.png",
        "drive.gif",
        "truth.png",
        "batch.png",
        "propagated.png",
    ):
        with Image.open(name) as picture:
            assert picture.width > 600, name
    assert len(list(Path("pictures").glob("*.png"))) == 3


def test_the_packages_named_are_those_of_the_message() -> None:
    assert APT in section("View", PAGE)
    packages = APT.removeprefix("apt-get install -y --no-install-recommends ")
    assert packages in (ROOT / ".ci" / "run").read_text()
