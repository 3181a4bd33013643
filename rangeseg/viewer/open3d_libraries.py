"""The system libraries of open3d, and remedies for missing ones."""

from __future__ import annotations

import ctypes
import importlib.util
import sys

from rangeseg.errors import RangesegError

PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libX11.so.6": "libx11-6",
    "libudev.so.1": "libudev1",
    "libgomp.so.1": "libgomp1",
}
"""Library -> the package of Debian and Ubuntu that contains it."""

APT = "apt-get install -y --no-install-recommends libegl1 libgl1 libusb-1.0-0"
"""The command to install what a bare Debian or Ubuntu lacks."""


class FaultyLibraries(RangesegError):
    """open3d cannot draw on this machine; the message names what to install."""

    exit_code = 2


def missing_libraries() -> list[str]:
    """The PACKAGES that cannot be loaded; none on other systems than Linux."""
    if sys.platform != "linux":
        return []
    missing = []
    for name in PACKAGES:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def explain(fault: str) -> str:
    """Explain in one line why open3d cannot draw.

    Args:
        fault: its message, or the event.
    """
    if importlib.util.find_spec("open3d") is None:
        return "open3d is not installed, and draws the points: pip install open3d"
    missing = missing_libraries()
    if missing:
        packages = " ".join(PACKAGES[name] for name in missing)
        return (
            f"open3d needs {', '.join(missing)}, which this system lacks: "
            f"apt-get install -y --no-install-recommends {packages}"
        )
    said = " ".join(fault.split())
    return (
        f"open3d cannot draw here ({said}): {APT}; open3d before 0.20 also needs a display, "
        "which xvfb-run makes"
    )
