"""The commands of the README and of the pages of the folders, run as they stand, on small data."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.cli import build_parser as data_parser
from data_tools.cli import main as rangeseg_data
from rangeseg.cli import build_parser as rangeseg_parser
from rangeseg.cli import main as rangeseg
from rangeseg.methods import METHODS
from rangeseg.methods.base import Method
from rangeseg.report.comparison import KINDS
from rangeseg.report.gains import mean_std, paired_gain
from rangeseg.report.rows import CONTROLS, Row, row_name
from rangeseg.runs.config import load_config
from tests.data_tools.test_own_formats import TIMES, write_drives
from tests.datasets.importing.recordings import Types, clouds, write_bag
from tests.datasets.nuscenes_format import write_nuscenes

ROOT = Path(__file__).parents[1]
DATASETS = "rangeseg/datasets/README.md"
# The only change: a training of seconds instead of days.
SMALL = [
    "range_image.height=32", "range_image.width=256", "range_image.crop_width=64",
    "model.width=4", "train.steps=2", "train.batch_size=2", "train.workers=0",
    "train.lovasz_weight=0",
]  # fmt: skip


# Simulated data sets -> their words in a table of results.
FORMATS = {
    "simulated": "", "nuscenes_simulated": " nuScenes", "scribble_kitti_drawn": " scribbles",
}  # fmt: skip

PAGES = sorted(p for p in ROOT.glob("**/README.md") if ".git" not in p.parts)


def section(title: str, page: str = "README.md") -> str:
    text = (ROOT / page).read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert text, f"{page} has no section {title}"
    return text


def commands(text: str) -> list[list[str]]:
    """The command lines of a section, word by word."""
    lines = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def small_data(here: Path, simulated_root: Path) -> None:
    """What the section expects below ``data/``, and the configurations."""
    (here / "configs").symlink_to(ROOT / "configs")
    kitti = here / "data" / "semantic_kitti" / "sequences"
    shutil.copytree(simulated_root / "sequences", kitti)
    for number in range(13, 22):  # the benchmark's test sequences, one scan each
        (kitti / str(number) / "velodyne").mkdir(parents=True)
        scan = next((kitti / "11" / "velodyne").iterdir())
        shutil.copy(scan, kitti / str(number) / "velodyne" / "000000.bin")
    write_nuscenes(here / "data" / "nuscenes")


def words_of_programs(text: str) -> list[list[str]]:
    """Every call of our programs in the blocks, also by torchrun, without what follows it."""
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    found = []
    for line in blocks.splitlines():
        words = shlex.split(line, comments=True)
        starts = [i for i, word in enumerate(words) if word in ("rangeseg", "rangeseg-data")]
        if starts:
            tail = words[starts[-1] :]
            ends = [tail.index(end) for end in (">", "&&") if end in tail]
            found.append(tail[: min(ends, default=len(tail))])
    return found


def test_every_command_has_words_that_the_programs_know() -> None:
    calls = [call for page in PAGES for call in words_of_programs(page.read_text())]
    assert len(calls) > 50
    for program, *arguments in calls:
        parser = {"rangeseg": rangeseg_parser, "rangeseg-data": data_parser}[program]()
        known = parser.parse_args(arguments)  # what is wrong raises SystemExit
        config = ROOT / str(getattr(known, "config", ""))
        if config.is_file() and "fixmatch" not in arguments:
            load_config(config, known.overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", page.read_text().replace("\n", " "))
    assert not [x for x in links if not x.startswith("http") and not (page.parent / x).exists()]


def test_every_benchmark_that_is_named_is_there() -> None:
    named = {n for p in PAGES for n in re.findall(r"-m tests\.benchmarks\.(\w+)", p.read_text())}
    files = (ROOT / "tests" / "benchmarks").glob("*.py")
    assert named == {f.stem for f in files if 'if __name__ == "__main__"' in f.read_text()}


def test_the_tables_of_results_are_those_of_the_runs() -> None:
    """Means, deviations and intervals, from what each run reached."""
    text = section("Results on the simulated street", "rangeseg/methods/README.md")
    shown = [x.strip("| ").split(" | ") for x in text.splitlines() if x[:2] == "| "][1:]
    of_budgets: dict[str, list[str]] = {}
    for row in sorted(rows_of("simulated_test.csv")):  # 1 %, then 10 %
        _, method, point, _, _, *gains = row.strip("| ").split(" | ")
        of_budgets.setdefault(method, [method]).extend([point, *gains])
    assert sorted(shown) == sorted(of_budgets.values())
    text = section("Eight labelled crops a step", "rangeseg/methods/README.md")
    shown = [x for x in text.splitlines() if x[:2] == "| " and not x.startswith("| labels")]
    assert sorted(shown) == sorted(rows_of("simulated_8_crops_test.csv"))


def test_the_table_of_networks_is_that_of_the_runs() -> None:
    """Point mIoU of FIDNet's runs in the table of methods, and of FRNet's by their steps."""
    points: dict[tuple[str, str, str], list[float]] = {}
    for network, results in {"FIDNet": "simulated", "FRNet": "simulated_frnet"}.items():
        with (ROOT / "tests" / "benchmarks" / f"{results}_test.csv").open(newline="") as file:
            for run in csv.DictReader(file):
                row = run["labels"], row_name(Row(run["method"], run["labelled"]))
                key = (*row, f"{network} {run['steps']}")
                points.setdefault(key, []).append(float(run["miou_point"]))
    text = section("FRNet against FIDNet", "rangeseg/models/README.md")
    shown = [x.strip("|").split("|") for x in text.splitlines() if x.startswith(("| 1%", "| 10%"))]
    columns, found = ("FIDNet 3600", "FRNet 1000", "FRNet 3600"), set()
    for labels, method, *cells in ([cell.strip() for cell in row] for row in shown):
        for column, cell in zip(columns, cells, strict=True):
            key = (labels, method, column)
            assert cell == (str(mean_std(points[key])) if key in points else "–"), key
            found.add(key)
    assert {key for key in points if key[2].startswith("FRNet")} <= found


def test_the_float32_gains_in_the_text_are_those_of_the_runs() -> None:
    text = section("Results on the simulated street", "rangeseg/methods/README.md")
    again = [row for row in rows_of("simulated_test_float32.csv") if "| exchange_mix |" in row]
    assert len(again) == 2
    for row in again:
        assert row.split(" | ")[-1].strip("+ |") in text


def test_the_gains_on_the_front_page_are_those_of_the_runs() -> None:
    gains: dict[tuple[str, str], str] = {}
    for row in rows_of("simulated_test.csv"):
        _, labels, method, *_, over_strong, _ = row.split("|")
        gains[method.strip(), labels.strip()] = over_strong.strip()
    text = section("Methods")
    shown = [[cell.strip(" `") for cell in x.split("|")] for x in text.splitlines()]
    table = [row[1:] for row in shown if len(row) == 6 and row[1] in METHODS]
    assert {method for method, *_ in table} == METHODS.keys() - {"supervised"}
    for method, _, few, more, _ in table:
        assert (few, more) == tuple(gains.get((method, x), "–") for x in ("1%", "10%"))
    flat = text.replace("\n", " ")
    assert gains["supervised, plain", "10%"] in flat
    text = flat + section("Few labels").replace("\n", " ")
    rows = rows_of("simulated_8_crops_test.csv")
    for row in rows:
        _, labels, method, point, *_, over_strong, _, _ = map(str.strip, row.split("|"))
        if "±" not in point or labels not in ("1%", "10%"):
            continue
        if method == "supervised, strong + propagation":
            assert over_strong in text, row
        if method in ("cps", "cps, plain"):
            assert over_best(row) in text, row
    taken = [row for row in shown if len(row) == 5 and row[1][:1].isdigit()]
    assert [labels for _, labels, *_ in taken] == ["1 %", "10 %", "20 %", "50 %"]
    for _, labels, method, gain, _ in taken:
        name = method.partition("`")[0] + (", plain" if labels != "1 %" else "")
        name += " + propagation" if "propagation" in method else ""
        (row,) = [r for r in rows if r.startswith(f"| {labels.replace(' ', '')} | {name} | ")]
        assert gain == over_best(row) + (" (one seed)" if "[" not in gain else "")
    page = section("Eight labelled crops a step", "rangeseg/methods/README.md").replace("\n", " ")
    pairs = [row for row in propagation_rows("simulated_8_crops_test.csv") if "±" in row]
    assert [row for row in pairs if "cutmix_seg +" in row and row.split("|")[-2].strip() in page]


def over_best(row: str) -> str:
    """The gain over the best of the supervised controls."""
    gains = [cell for cell in row.strip("| ").split(" | ")[5:] if cell != "–"]
    return min(gains, key=lambda gain: float(gain.split()[0]))


def rows_of(results: str) -> list[str]:
    """The rows of the table of these runs."""
    lines = (ROOT / "tests" / "benchmarks" / results).read_text().splitlines()
    runs: dict[tuple[str, Row], list[dict[str, str]]] = {}
    for run in csv.DictReader(lines):
        row = Row(run["method"], run["labelled"], run.get("propagation", ""))
        labels = run["labels"] + FORMATS[run["dataset"]]
        runs.setdefault((labels, row), []).append(run)

    def miou(labels: str, row: Row, kind: str) -> dict[int, float]:
        return {int(run["seed"]): float(run[f"miou_{kind}"]) for run in runs[labels, row]}

    coin = Row("supervised", "coin")
    controls = [*CONTROLS, *([coin] if coin in {row for _, row in runs} else [])]
    rows = []
    for labels, row in runs:
        spreads = [str(mean_std([*miou(labels, row, kind).values()])) for kind in KINDS]
        cells = [labels, row_name(row).partition(" (")[0], *spreads]
        for control in controls:
            if row == control or (labels, control) not in runs:
                cells.append("–")
                continue
            gain = paired_gain(miou(labels, row, "point"), miou(labels, control, "point"))
            cells.append(str(gain))
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def test_the_tables_of_propagation_are_those_of_the_runs() -> None:
    page = (ROOT / "tests" / "benchmarks" / "README.md").read_text()
    text = page.partition("## Labels along the poses")[2].partition("\n## ")[0]
    shown = [x for x in text.splitlines() if x.startswith(("| 1%", "| 10%"))]
    files = ("propagation_test.csv", "propagation_near_test.csv")
    assert shown == [row for name in files for row in propagation_rows(name)]


def propagation_rows(results: str) -> list[str]:
    """Labels, row, seeds, point mIoU, and its gains over the control without and with the same."""
    lines = (ROOT / "tests" / "benchmarks" / results).read_text().splitlines()
    runs: dict[tuple[str, Row], dict[int, float]] = {}
    for run in csv.DictReader(lines):
        row = Row(run["method"], run["labelled"], run["propagation"])
        found = runs.setdefault((run["labels"], row), {})
        found[int(run["seed"])] = float(run["miou_point"])
    rows = []
    for (labels, row), points in runs.items():
        cells = [labels, row_name(row), str(len(points)), str(mean_std([*points.values()]))]
        for propagation in ("", row.propagation):
            control = Row("supervised", row.labelled, propagation)
            known = control != row and (labels, control) in runs
            cells.append(str(paired_gain(points, runs[labels, control])) if known else "–")
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def follow(
    capsys: pytest.CaptureFixture[str],
    title: str,
    page: str = "README.md",
    small: list[str] = SMALL,
) -> None:
    """Run the commands of a section as they stand, trainings with small settings."""
    words = commands(section(title, page))
    assert len(words) >= 3
    for program, *arguments in words:
        target = None
        if ">" in arguments:
            *arguments, _, target = arguments
        if arguments[0] == "train":
            arguments += [word for setting in small for word in ("--set", setting)]
        if arguments[0] == "simulate":
            arguments += ["--train-scans", "10", "--val-scans", "1", "--test-scans", "2"]
            arguments += ["--columns", "256"]
        if "--zip" in arguments:
            arguments.append("--anyway")  # small data are no whole split
        capsys.readouterr()
        code = {"rangeseg": rangeseg, "rangeseg-data": rangeseg_data}[program](arguments)
        captured = capsys.readouterr()
        assert code == 0, f"{program} {shlex.join(arguments)}\n{captured.out}{captured.err}"
        if target is not None:
            Path(target).write_text(captured.out)


@pytest.mark.slow
def test_the_section_on_data(
    simulated_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small_data(tmp_path, simulated_root)
    monkeypatch.chdir(tmp_path)
    follow(capsys, "Train, evaluate, predict")
    follow(capsys, "Public data sets", DATASETS)
    follow(capsys, "Packed data", DATASETS)

    assert len(list(Path("submission").rglob("*.label"))) >= 11
    assert Path("submission.zip").is_file()
    assert len(list(Path("nuscenes_val").rglob("*_lidarseg.bin"))) > 0


@pytest.mark.slow
def test_the_section_on_published_settings(
    simulated_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small_data(tmp_path, simulated_root)
    monkeypatch.chdir(tmp_path)
    follow(capsys, "As published", "configs/README.md")


@pytest.mark.slow
def test_the_sections_on_the_simulated_street(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    for title in ("In nuScenes' format", "With drawn scribbles"):
        follow(capsys, title, "rangeseg/simulation/README.md", SMALL[1:])
    for run, name in (
        ("nuscenes", "nuscenes_simulated"), ("scribble_kitti", "scribble_kitti_drawn"),
    ):  # fmt: skip
        result = json.loads(Path(f"runs/{run}/cutmix_seg/10pct/seed0/result.json").read_text())
        assert result["protocol"]["dataset"] == name


@pytest.mark.real_data
@pytest.mark.slow
def test_the_section_on_own_scans(
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """PCD files of a VLP-16 named by their times, a scan of a camera's axes, bags."""
    drives = write_drives(real_data, tmp_path / "data" / "mine")
    (drives / "drive 1" / f"{TIMES[0]}.npy").unlink()  # it is unlabelled
    kitti = real_data / "semantickitti_mini/sequences/00/velodyne/000000.bin"
    x, y, z, intensity = np.fromfile(kitti, "<f4").reshape(-1, 4).T
    for drive in ("A", "B"):
        folder = tmp_path / "data" / "camera_axes" / drive
        folder.mkdir(parents=True)
        points = np.stack([-1000 * y, -1000 * z, 1000 * x, intensity], axis=1)
        points.tofile(folder / "000000.bin")
    drive1 = write_bag(tmp_path / "1", "ros1", (types := Types(True)), clouds(types, 3))
    drive2 = write_bag(tmp_path / "2", "mcap", (types := Types(False)), clouds(types, 3))
    drive1.rename(tmp_path / "drive1.bag")
    next(drive2.glob("*.mcap")).rename(tmp_path / "drive2.mcap")
    monkeypatch.chdir(tmp_path)
    follow(capsys, "Your own scans", DATASETS, ["range_image.crop_width=64", *SMALL[3:]])

    front = commands(section("Your own scans"))
    assert front == commands(section("Your own scans", DATASETS))[: len(front)]
    labels = sorted(Path("pseudo_labels").rglob("*.label"))
    assert [label.stem for label in labels] == TIMES
    assert (np.fromfile(labels[0], np.uint8) == 0).mean() > 0.5  # unsure after two steps
    for name in ("camera", "drives"):
        assert load_config(Path(f"{name}.yaml")).dataset.name == "custom"


@pytest.mark.slow
def test_the_section_on_use(
    drawing: None,
    simulated_root: Path,
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a run on the simulated street, whose classes are SemanticKITTI's."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained_run, "runs/semantic_kitti/cps/10pct/seed0")
    shutil.copytree(simulated_root / "sequences" / "08" / "velodyne", "data/drive")
    Path("data/semantic_kitti").symlink_to(simulated_root)
    Path("configs").symlink_to(ROOT / "configs")
    own = (ROOT / "configs" / "simulated.yaml").read_text()
    Path("mine.yaml").write_text(own.replace("data/simulated", str(simulated_root)))
    follow(capsys, "Use it", small=SMALL[1:])
    (code,) = re.findall(r"```python\n(.*?)```", section("Use it"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    written = np.fromfile(next(Path("labels").rglob("000000.label")), np.uint32)
    assert np.array_equal(written, names["labels"])
    assert Path("drive.png").stat().st_size > 10_000
    assert len(list(Path("labels_onnx").rglob("*.label"))) == 3
    assert len(list(Path("coloured").rglob("*.ply"))) == 3


def test_the_section_on_a_method_of_ones_own(
    simulated_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = section("Your own method", "tests/README.md")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (line,) = re.findall(r"`\"(\w+)\": (\w+)`", text)
    names: dict[str, type[Method[Any]]] = {}
    exec(compile(code, "README.md", "exec"), names)
    monkeypatch.setitem(METHODS, line[0], names[line[1]])
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "simulated").symlink_to(simulated_root)
    monkeypatch.chdir(tmp_path)
    ((_, *arguments),) = commands(text)
    arguments += [word for setting in SMALL for word in ("--set", setting)]
    assert rangeseg(arguments) == 0, capsys.readouterr().err
    lines = (tmp_path / "runs/simulated/fixmatch/1pct/seed0/metrics.jsonl").read_text()
    assert "pseudo" in json.loads(lines.splitlines()[-1])


@pytest.mark.real_data
@pytest.mark.slow
def test_the_section_on_few_labels(
    drawing: None,
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its commands on real scans: three of thirty are labelled instead of one."""
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    Path("data").mkdir()
    Path("data/semantic_kitti").symlink_to(real_data / "semantickitti_mini")
    for program, *arguments in commands(section("Few labels")):
        arguments = ["10%" if word == "1%" else word for word in arguments]
        if arguments[0] == "train":
            arguments += [w for s in SMALL for w in ("--set", s)]
        capsys.readouterr()
        code = {"rangeseg": rangeseg, "rangeseg-data": rangeseg_data}[program](arguments)
        assert code == 0, capsys.readouterr().err
    folders = Path("propagated"), Path("propagated_kiss")
    given = [{path.relative_to(f) for path in f.rglob("*.label")} for f in folders]
    assert given[0] == given[1] != set()
    assert Path("propagated.png").stat().st_size > 10_000
