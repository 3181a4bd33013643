"""The page of a report: whole, self-contained, escaped, with every figure of the tables."""

import base64
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest

from rangeseg.cli import main
from rangeseg.report.page import report_page
from rangeseg.report.tables import report
from tests.report.test_tables import STRONG, result, tables

VOID = {"meta", "img", "source", "br", "hr", "link", "input"}
ROWS = [("supervised", "plain"), STRONG, ("cps", "strong"), ("pcr", "strong")]


class Page(HTMLParser):
    """What a browser would see; refuses tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def text() -> str:
    return report_page(results())


@pytest.fixture
def _without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rangeseg.report.page.miou_plot", lambda *words: b"")


def results(dataset: str = "semantic_kitti", evaluated: int = 4071) -> list[dict]:
    return [
        result(
            method, labelled, seed, 30 + number + 0.3 * seed * number, labels, scans,
            protocol={"dataset": dataset, "split": "val"}, evaluated=evaluated, published=[],
        )
        for labels, scans in (("1%", 191), ("10%", 1913))
        for number, (method, labelled) in enumerate(ROWS)
        for seed in range(3 if method != "pcr" else 1)
    ]  # fmt: skip


def test_the_page_has_every_figure_of_the_report(text: str) -> None:
    page, markdown = Page(text), report(results())
    for table in tables(markdown):
        for row in table:
            assert [r for r in page.tables if any(set(row) <= set(line) for line in r)], row
    for note in re.findall("Note: (.*)", markdown):
        assert note in page.text
    for fact in ("val (4071 scans)", "nearest_point 5x5", "600", "semantickitti policy", "32x512"):
        assert fact in page.text
    assert "supervised, strong" in page.text


@pytest.mark.usefixtures("_without_plots")
def test_published_figures_are_of_the_whole_split() -> None:
    assert "As published" in report_page(results()[:1])
    assert "As published" not in report_page(results(evaluated=5)[:1])


def test_gains_are_over_the_strong_control_and_over_each_other_method(text: str) -> None:
    heat, between = Page(text).tables[3:5]
    assert heat[0] == ["class", "supervised, plain", "cps", "pcr"]
    # Those of one seed have no interval, so no star.
    # Seeds 0, 1, 2 of the control 31, 31.3, 31.6; of plain 30; of cps 32, 32.6, 33.2; of pcr 33.
    assert heat[1] == ["mIoU", "-1.3*", "+1.3*", "+2.0"]
    assert heat[2] == ["car", "-1.3*", "+1.3*", "+2.0"]
    assert between == [
        ["row less column", "cps", "pcr"],
        ["cps", "–", "-1.0"],
        ["pcr", "+1.0", "–"],
    ]


def test_the_page_needs_nothing_else(text: str) -> None:
    assert not re.search(r"https?:|@import|url\(", text)
    for tag, attributes in Page(text).tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        assert "href" not in attributes
        for key in ("src", "srcset"):
            assert attributes.get(key, "data:").startswith("data:")


def test_plots_are_pictures_for_both_themes_and_widths(text: str) -> None:
    from matplotlib.image import imread

    pictures = re.findall(r'data:image/png;base64,([^"]+)"', text)
    assert len(set(pictures)) == 4
    for picture in pictures:
        pixels = imread(BytesIO(base64.b64decode(picture, validate=True)))
        assert pixels[..., 3].min() == 0  # transparent: the page's own background shows
        assert pixels[..., 3].max() == 1
    assert text.count("prefers-color-scheme: dark") >= 3


@pytest.mark.parametrize("name", ['"><script>a & b</script><img src=x>', r"$\frac"])
def test_names_are_escaped(name: str) -> None:
    odd = result(name, "strong", 0, 30, labels=f"{name}$", iou={name: 3.0})
    odd["protocol"]["dataset"] = odd["run"]["device"] = name
    page = Page(report_page([odd, {**result(*STRONG, 0, 31), "protocol": odd["protocol"]}]))
    assert name in page.text
    assert not {"script", "object"} & {tag for tag, _ in page.tags}
    assert sum(tag == "img" for tag, _ in page.tags) == 1


@pytest.mark.usefixtures("_without_plots")
def test_pages_of_odd_results() -> None:
    """One run, no control; a single method; results of two data sets; nothing to gain."""
    one = Page(report_page([r for r in results() if r["run"]["method"] != "pcr"])).tables
    assert "row less column" not in [table[0][0] for table in one]
    assert len(Page(report_page([result("cps", "strong", 0, 30)])).tables) == 3
    both = Page(report_page([*results(), *results("simulated")]))
    assert sum(tag == "section" for tag, _ in both.tags) == 2
    same = [result(*row, 0, 30) for row in ROWS]
    assert "+0.0" in Page(report_page(same)).text


def test_the_command_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for r in results():
        run = r["run"]
        name = f"{run['method']}_{run['labelled']}_{run['labelled_scans']}_{run['seed']}"
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "result.json").write_text(json.dumps(r))
    page, table = tmp_path / "new" / "page.html", tmp_path / "new" / "runs.csv"
    words = ["report", str(tmp_path / "runs"), str(tmp_path / "runs"), "--html", str(page)]
    assert main([*words, "--csv", str(table)]) == 0
    said = capsys.readouterr().out
    assert f"page: {page}" in said
    assert f"table: {table}" in said
    assert Page(page.read_text()).tables
    assert len(table.read_text().splitlines()) == 1 + len(results())
    assert main(["report", str(tmp_path / "runs"), "--html", str(tmp_path)]) == 2
    assert "is a folder: name the file to write" in capsys.readouterr().err
