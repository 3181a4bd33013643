"""The demo: where its configuration is found, its messages, results of another length."""

import json
import sys
import sysconfig
from pathlib import Path

import pytest

from rangeseg.errors import ConfigError, DataError
from rangeseg.runs import demo, shipped
from rangeseg.runs.config import Config
from rangeseg.runs.folder import result_path
from rangeseg.runs.jobs import train_missing
from tests.report.test_tables import result


def finished(out: Path, steps: int) -> None:
    """As if both methods had been trained and evaluated."""
    for name, (method, _) in demo.RUNS.items():
        path = result_path(out / "runs" / name, demo.SPLIT)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = result(method, "strong", 0, 30.0, evaluated=40, steps=steps)
        path.write_text(json.dumps(made | {"seconds": 2.0}))
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
    monkeypatch.setattr(demo, "train_missing", lambda *words: pytest.fail("it trains"))
    return found


@pytest.mark.parametrize(
    ("was", "steps", "missing"),
    [(7, None, None), (7, 8, "supervised"), (demo.STEPS, 7, "cutmix_seg")],
)
def test_results_of_another_length_are_not_shown(
    was: int, steps: int | None, missing: str | None, tmp_path: Path, asked: list[Config]
) -> None:
    finished(tmp_path, was)
    if missing is not None:
        result_path(tmp_path / "runs" / missing, demo.SPLIT).unlink()
    message = rf"was trained for {was} steps, .*: choose another --out, or --steps {was}$"
    with pytest.raises(ConfigError, match=message):
        demo.run_demo(tmp_path, steps)
    assert asked == []


@pytest.mark.parametrize(("was", "steps"), [(7, 7), (demo.STEPS, None)])
@pytest.mark.usefixtures("asked")
def test_the_table_says_how_long_was_trained(was: int, steps: int | None, tmp_path: Path) -> None:
    finished(tmp_path, was)
    heading, *_ = demo.run_demo(tmp_path, steps).splitlines()
    assert heading.startswith(f"simulated street, 4 labelled scans, 40 test scans, {was} steps, ")


@pytest.mark.usefixtures("asked")
def test_no_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train: steps must be 1 or more"):
        demo.run_demo(tmp_path, 0)


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

    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "checkout/rangeseg/runs/shipped.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(sysconfig, "get_path", get_path)
    with pytest.raises(ConfigError, match=r"simulated\.yaml is in none of .*prefix/share/rangeseg"):
        shipped.shipped_config("simulated.yaml")
    path = tmp_path / folder / "simulated.yaml"
    path.parent.mkdir(parents=True)
    path.touch()
    assert shipped.shipped_config("simulated.yaml") == path


def test_trainings_that_fail_are_named(
    tmp_path: Path, asked: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "fails"
    script.write_text("#!/bin/sh\necho error: no room\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(demo, "train_missing", train_missing)
    message = r"3 of 3 runs failed; the same command .*\n  supervised: no room \(see .*sed\.log\)"
    with pytest.raises(DataError, match=message):
        demo.run_demo(tmp_path / "demo")
    assert "--method cutmix_seg" in (tmp_path / "demo/runs/cutmix_seg.log").read_text()
