"""A folder that one process holds at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from rangeseg.files import LOCK, sole_user

if sys.platform != "win32":
    import fcntl
else:
    pytest.skip("no locks", allow_module_level=True)

SECOND = """
import sys
from pathlib import Path
from rangeseg.files import sole_user
with sole_user(Path(sys.argv[1])):
    pass
"""


def test_the_holder_before_takes_its_own_file_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so between the opening and the locking of the next one, who would hold nothing."""
    lockf, ended = fcntl.lockf, []

    def lock_late(file: int, how: int) -> None:
        if not ended:
            (tmp_path / LOCK).unlink()
            ended.append(1)
        lockf(file, how)

    monkeypatch.setattr(fcntl, "lockf", lock_late)
    with sole_user(tmp_path):
        assert ended
        assert (tmp_path / LOCK).is_file()
        second = subprocess.run([sys.executable, "-c", SECOND, str(tmp_path)], capture_output=True)
        assert b"BlockingIOError" in second.stderr
    assert not (tmp_path / LOCK).exists()
