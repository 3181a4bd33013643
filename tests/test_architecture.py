"""The layers of the package: imports go downward only, heavy ones wait for their function."""

import argparse
import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import data_tools.cli
import rangeseg.cli

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"", "errors"},
    {"settings"},
    {"system"},
    {"geometry"},
    {"models"},
    {"simulation"},
    {"datasets"},
    {"motion"},
    {"methods"},
    {"engine", "report"},
    {"deploy"},
    {"drawing"},
    {"runs"},
    {"viewer"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
FACE = ROOT / "rangeseg" / "__init__.py"  # whose functions import what they offer
FILES = sorted((ROOT / "rangeseg").rglob("*.py"))


def package(module: str) -> str:
    """``engine`` of ``rangeseg.engine.trainer``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def layer(name: str) -> int:
    found = [i for i, packages in enumerate(LAYERS) if name in packages]
    assert found, f"'{name}' has no layer: add it to LAYERS"
    return found[0]


def imported(path: Path) -> list[str]:
    names, tree = [], ast.parse(path.read_text())
    for node in tree.body if path == FACE else ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downward(path: Path) -> None:
    relative = path.relative_to(ROOT).with_suffix("")
    module = ".".join(relative.parts).removesuffix(".__init__")
    here = layer(package(module))
    for name in imported(path):
        assert name.split(".")[0] != "data_tools", f"{module} imports {name}"
        if name.split(".")[0] == "rangeseg" and package(name) != package(module):
            assert layer(package(name)) < here, f"{module} imports {name}, which is not below it"


def test_the_root_has_five_modules() -> None:
    names = {path.stem for path in (ROOT / "rangeseg").glob("*.py")}
    assert names == {"__init__", "__main__", "errors", "settings", "cli"}


def test_modules_import_each_other_in_no_circle() -> None:
    modules = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in FILES
    }
    graph = {name: set(imported(path)) & modules.keys() - {name} for name, path in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_geometry_and_simulation_need_no_torch() -> None:
    for folder in ("geometry", "simulation"):
        for path in (ROOT / "rangeseg" / folder).glob("*.py"):
            assert not [n for n in imported(path) if n.split(".")[0] == "torch"], path


def test_nothing_below_the_commands_prints_or_exits() -> None:
    allowed = {"cli.py", "progress.py", "__main__.py"}
    for path in FILES:
        if path.name in allowed or path.parent.name == "commands":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                assert call not in ("print", "sys.exit", "exit"), f"{path}: {call}"


@pytest.mark.parametrize("parser", [rangeseg.cli.build_parser(), data_tools.cli.build_parser()])
def test_help_has_per_cent_signs_once(parser: argparse.ArgumentParser) -> None:
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for each in (parser, *commands.choices.values()):
        assert "%%" not in each.format_help()


@pytest.mark.parametrize("words", [["rangeseg.cli"], ["data_tools.cli"]])
def test_help_is_instant(words: list[str]) -> None:
    """It must not load torch, numba, open3d or the devkit."""
    code = (
        f"import sys; from {words[0]} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numba', 'open3d', 'nuscenes', 'matplotlib', 'kiss_icp'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
