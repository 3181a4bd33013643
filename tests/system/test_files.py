"""A folder that one process holds at a time; files that stay in their folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from rangeseg.system.files import LOCK, sole_user, write_file

if sys.platform != "win32":
    import fcntl
else:
    pytest.skip("no locks", allow_module_level=True)

SECOND = """
import sys
from pathlib import Path
from rangeseg.system.files import sole_user
with sole_user(Path(sys.argv[1]), "works"):
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
    with sole_user(tmp_path, "works"):
        assert ended
        assert (tmp_path / LOCK).is_file()
        second = subprocess.run([sys.executable, "-c", SECOND, str(tmp_path)], capture_output=True)
        assert b"another process works in" in second.stderr
    assert not (tmp_path / LOCK).exists()


def test_a_link_in_the_folder_of_a_stranger_leads_nowhere(tmp_path: Path) -> None:
    own, path = tmp_path / "own.txt", tmp_path / "run" / "result.json"
    own.write_text("precious")
    path.parent.mkdir()
    path.with_name("result.json.partial").symlink_to(own)
    write_file(path, "{}")
    assert own.read_text() == "precious"
    assert path.read_text() == "{}"
    assert list(path.parent.iterdir()) == [path]
    assert not path.is_symlink()
