"""The demo: where its configuration is found, its words, and results of another length."""

import json
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from rangeseg.commands import demo
from rangeseg.errors import ConfigError
from rangeseg.runs.config import Config


def finished(out: Path, steps: int) -> None:
    """As if both methods had been trained and evaluated."""
    for method in demo.METHODS:
        path = demo.result_path(out / "runs" / method, demo.SPLIT)
        path.parent.mkdir(parents=True, exist_ok=True)
        run = {
            "method": method, "labelled": "strong", "labels": "1%", "labelled_scans": 4, "seed": 0,
            "steps": steps, "fingerprint": "a", "common": "b", "train_seconds": 40.0,
            "labelled_list": "c", "precision": "float32", "settings": {}, "skipped_scans": {},
        }  # fmt: skip
        result = {
            "protocol": {
                "dataset": "simulated", "split": "test", "policy": "semantickitti",
                "image": [32, 512], "rows": "scan_order", "back_projection": "none",
            },
            "miou": {"point": 30.0, "point_raw": 29.0, "pixel": 31.0},
            "iou": {"car": 30.0}, "scans": 40, "seconds": 2.0, "skipped_scans": {}, "run": run,
        }  # fmt: skip
        path.write_text(json.dumps(result))
    for name in ("overview.png", "journey.png"):
        (out / name).touch()


class Parts:
    def __init__(self) -> None:
        self.source = self

    def scan_ids(self, split: str) -> list[str]:
        return []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations whose data the demo asks for; nothing is simulated, nothing trained."""
    found: list[Config] = []

    def parts(config: Config) -> Parts:
        found.append(config)
        return Parts()

    monkeypatch.setattr(demo, "Experiment", parts)
    monkeypatch.setattr(demo, "_train", lambda *words: pytest.fail("it trains"))
    return found


@pytest.mark.parametrize(("was", "steps"), [(7, None), (7, 8), (demo.STEPS, 7)])
@pytest.mark.parametrize("missing", [None, *demo.METHODS])
def test_results_of_another_length_are_not_shown(
    was: int, steps: int | None, missing: str | None, tmp_path: Path, asked: list[Config]
) -> None:
    finished(tmp_path, was)
    if missing is not None:
        demo.result_path(tmp_path / "runs" / missing, demo.SPLIT).unlink()
    message = rf"was trained for {was} steps, .*: choose another --out, or --steps {was}$"
    with pytest.raises(ConfigError, match=message):
        demo.run_demo(tmp_path, steps)
    assert asked == []


@pytest.mark.parametrize(("was", "steps"), [(7, 7), (demo.STEPS, None)])
@pytest.mark.usefixtures("asked")
def test_the_table_says_how_long_was_trained(was: int, steps: int | None, tmp_path: Path) -> None:
    finished(tmp_path, was)
    heading, *_ = demo.run_demo(tmp_path, steps).splitlines()
    assert heading.startswith(f"simulated street, 40 test scans, {was} steps, mIoU in per cent")


@pytest.mark.usefixtures("asked")
def test_no_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.steps: .*greater than or equal to 1 \(found 0"):
        demo.run_demo(tmp_path, 0)


@pytest.mark.parametrize("name", ["a #1: 'x' {y}", "schön\U0001f600", "~"])
def test_odd_folders(
    name: str, tmp_path: Path, asked: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finished(Path(name), demo.STEPS)
    demo.run_demo(Path(name))
    assert asked[0].dataset.root == tmp_path / name / "data"


@pytest.mark.parametrize(
    "folder",
    ["checkout/configs", "checkout/share/rangeseg/configs", "system/share/rangeseg/configs",
     "prefix/share/rangeseg/configs", "home/share/rangeseg/configs"],
)  # fmt: skip
def test_the_configuration_is_found_however_it_was_installed(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a checkout, with ``pip install --target``, on Debian, in an environment, ``--user``."""

    def get_path(name: str, scheme: str = "default") -> str:
        assert name == "data"
        return str(tmp_path / ("system" if scheme == "default" else "home"))

    monkeypatch.setattr(demo, "__file__", str(tmp_path / "checkout/rangeseg/commands/demo.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(sysconfig, "get_path", get_path)
    with pytest.raises(ConfigError, match=r"simulated\.yaml is in none of .*prefix/share/rangeseg"):
        demo.shipped_config("simulated.yaml")
    path = tmp_path / folder / "simulated.yaml"
    path.parent.mkdir(parents=True)
    path.touch()
    assert demo.shipped_config("simulated.yaml") == path


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells them")
def test_the_trainings_of_a_demo_that_is_killed_end(tmp_path: Path) -> None:
    script, number = tmp_path / "sleeps", tmp_path / "number"
    script.write_text(
        f"#!/bin/sh\necho $$ > {number}.new\nmv {number}.new {number}\nexec sleep 60\n"
    )
    script.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from rangeseg import demo\n"
        f"sys.executable, folder = {str(script)!r}, Path({str(tmp_path)!r}) / 'run'\n"
        "demo._train(Path('config.yaml'), [], {'cps': folder}, 10)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not number.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    status = Path("/proc") / number.read_text().strip() / "cmdline"
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while status.is_file() and status.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not status.is_file() or not status.read_bytes()


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cps.log").mkdir()
    with pytest.raises(ConfigError, match=r"cps\.log cannot be written.*choose another --out"):
        demo._train(tmp_path / "any.yaml", [], {"cps": tmp_path / "cps"}, 10)
