"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

PARTIAL = ".partial"
"""Ends the name of a file that is being written; one that is found was cut short."""


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file under another name, then give it its own; folders are made.

    Args:
        path: the file; one that is there is replaced.
        content: text is written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + PARTIAL)
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)
