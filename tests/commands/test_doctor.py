"""``rangeseg doctor``: what there is, what is missing, and that it says so where things fail."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rangeseg.cli import main
from rangeseg.commands.doctor import BAD, GOOD, OPTIONAL, REQUIRED, examine
from tests.viewer.conftest import broken_library

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def test_versions_and_data(tiny_config: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith((GOOD, BAD)) for line in lines)
    for name in REQUIRED:
        assert f"{GOOD}{name} {importlib.metadata.version(name)}" in lines
    for path in (ROOT / "configs").glob("*.yaml"):
        assert sum(f"{path.name}: " in line for line in lines) == 1
    assert any("GPU" in line for line in lines)


@pytest.mark.slow
def test_data_that_are_there_are_counted(simulated_root: Path, tmp_path: Path) -> None:
    text = (ROOT / "configs" / "simulated.yaml").read_text()
    config = tmp_path / "mine.yaml"
    config.write_text(text.replace("root: data/simulated", f"root: {simulated_root}"))
    lines = list(examine(config))
    assert lines[-1] == f"{GOOD}mine.yaml: {simulated_root} (train 20, val 3 scans)"
    config.write_text(text.replace("root: data/simulated", f"root: {tmp_path / 'none'}"))
    assert list(examine(config))[-1].endswith(f"simulate {tmp_path / 'none'}` generates it")
    config.write_text(text.replace("steps:", "stpes:"))
    assert "did you mean 'steps'" in list(examine(config))[-1]


def test_every_extra_for_users_is_named() -> None:
    text = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2]
    extras = [x for x in text.partition("\n[")[0].splitlines() if re.match(r"(?!test|dev)\w+ =", x)]
    named = {name for line in extras for name in re.findall(r'"([\w-]+)', line)}
    assert named == OPTIONAL.keys() - {"open3d", "lazrs"}  # required, and an extra of laspy


def test_what_is_not_installed_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == "open3d":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", without)
    lines = list(examine(None))
    assert any(line.endswith("pip install open3d") for line in lines if line.startswith(BAD))
    assert any(line.startswith(f"{BAD}torch cannot be imported") for line in lines)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the names are those of Linux")
def test_without_system_libraries_it_works_and_names_them(tmp_path: Path) -> None:
    environment = broken_library(tmp_path, "libusb-1.0.so.0")
    broken_library(tmp_path, "libGL.so.1")
    done = subprocess.run(
        [sys.executable, "-m", "rangeseg", "doctor"],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [x for x in done.stdout.splitlines() if "libusb" in x]
    assert line == (
        f"{BAD}open3d needs libGL.so.1, libusb-1.0.so.0, which this system lacks: "
        "apt-get install -y --no-install-recommends libgl1 libusb-1.0-0"
    )
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the names are those of Linux")
def test_all_but_the_viewer_works_where_open3d_cannot_be_loaded(
    tiny_config: list[str], tmp_path: Path
) -> None:
    """As on a bare system, whose loader does not find what open3d is linked with."""
    pytest.importorskip("open3d")
    environment = broken_library(tmp_path, "libEGL.so.1")
    imported = python(["-c", "import open3d"], environment)
    assert imported.returncode != 0
    assert "libEGL.so.1" in imported.stderr
    run, config = str(tmp_path / "run"), [*tiny_config, "--set", "train.validate_every=2"]
    strips = str(tmp_path / "strips.png")
    commands = [
        ["train", *config, "--method", "supervised", "--labels", "10%", "--out", run],
        ["view", run, "--panel", "--save", strips],
        ["view", run, "--save", str(tmp_path / "points.png")],
    ]
    code = f"from rangeseg.cli import main; print([main(words) for words in {commands}])"
    done = python(["-c", code], environment)
    assert done.stdout.splitlines()[-1] == "[0, 0, 2]", done.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"result.json", "curves.png"}
    assert Path(strips).is_file()
    assert done.stderr.splitlines()[-1] == (
        "error: open3d needs libEGL.so.1, which this system lacks: "
        "apt-get install -y --no-install-recommends libegl1"
    )


def python(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=120
    )
