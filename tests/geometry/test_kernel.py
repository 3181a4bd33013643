"""Kernels compile once for all processes, and compile at all where nothing can be written."""

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
import numba
from rangeseg.geometry.kernel import kernel

@kernel
def double(x):
    return 2 * x

try:
    numba.njit(cache=True)(double.py_func)
except RuntimeError as error:
    print(error)
print(double(21))
"""


def run_module(folder: Path, cache_home: str) -> str:
    (folder / "module.py").write_text(MODULE)
    env = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    root = str(Path(__file__).parents[2])
    env |= {"HOME": cache_home, "XDG_CACHE_HOME": cache_home, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(folder / "module.py")],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_compiled_kernel_is_kept_beside_its_source(tmp_path: Path) -> None:
    assert run_module(tmp_path, str(tmp_path)) == "42\n"
    assert list((tmp_path / "__pycache__").glob("module.double*.nbc"))


def test_a_kernel_works_where_no_folder_can_be_written(tmp_path: Path) -> None:
    # A file in the place of the folder stops even the administrator, whom permissions do not.
    (tmp_path / "__pycache__").write_text("")
    (tmp_path / "nowhere").write_text("")
    output = run_module(tmp_path, str(tmp_path / "nowhere"))
    assert "no locator available" in output  # numba by itself would have failed
    assert output.endswith("42\n")
