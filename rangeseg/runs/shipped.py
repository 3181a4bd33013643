"""Configurations shipped with the package."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from rangeseg.errors import ConfigError


def shipped_config(name: str) -> Path:
    """Path of a configuration shipped with the package.

    Args:
        name: name of a file in ``configs/``, such as ``published/nuscenes.yaml``.

    Raises:
        ConfigError: it is missing.
    """
    package = Path(__file__).parents[2]
    user = sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))
    # A checkout, then pip's places: with --target, for the system, with --user.
    prefixes = [package, Path(sysconfig.get_path("data")), Path(sys.prefix), Path(user)]
    folders = [package / "configs", *[p / "share" / "rangeseg" / "configs" for p in prefixes]]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(dict.fromkeys(map(str, folders)))
    raise ConfigError(f"{name} is in none of {looked}: install rangeseg again")
