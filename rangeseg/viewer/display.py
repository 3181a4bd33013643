"""Check whether this machine can open a window."""

from __future__ import annotations

import ctypes
import os
import socket
import sys


def has_display() -> bool:
    """Whether an X11 or Wayland display answers; DISPLAY may name a closed one.

    Without a display open3d draws into memory, and a window waits for keys forever.
    """
    return sys.platform != "linux" or _has_x11() or _has_wayland()


def _has_x11() -> bool:
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return False
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = x11.XOpenDisplay(None)
    if display is None:
        return False
    x11.XCloseDisplay(ctypes.c_void_p(display))
    return True


def _has_wayland() -> bool:
    name, folder = os.environ.get("WAYLAND_DISPLAY"), os.environ.get("XDG_RUNTIME_DIR", "")
    if not name:
        return False
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(os.path.join(folder, name)) == 0
