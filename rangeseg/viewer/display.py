"""What open3d leaves out on X11: whether there is a display, and a title that changes."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_ulong, c_void_p

_ERROR_HANDLER = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)
_REPLACE = 0


def has_display() -> bool:
    """Whether a window could be opened; DISPLAY may name a display that is not there.

    open3d falls back to drawing into memory then, and waits for ever for keys that cannot come.
    """
    if sys.platform != "linux":
        return True
    with _display() as (_, display):
        return display is not None or _has_wayland()


def _has_wayland() -> bool:
    name, folder = os.environ.get("WAYLAND_DISPLAY"), os.environ.get("XDG_RUNTIME_DIR")
    if not name or not (folder or name.startswith("/")):
        return False
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.path.join(folder or "/", name))
        except OSError:
            return False
    return True


def find_window(title: str) -> int | None:
    """The X11 window of this title; None where there is none, or no X11."""
    if sys.platform != "linux":
        return None
    with _display() as (x11, display):
        if x11 is None or display is None:
            return None
        return _search(x11, display, x11.XDefaultRootWindow(display), title.encode())


def set_title(window: int, title: str) -> None:
    """Rename an X11 window, which is still there."""
    with _display() as (x11, display):
        if x11 is None or display is None:
            return
        text = title.encode()
        kind = x11.XInternAtom(display, b"UTF8_STRING", 0)
        for name in (b"_NET_WM_NAME", b"WM_NAME"):
            atom = x11.XInternAtom(display, name, 0)
            x11.XChangeProperty(display, window, atom, kind, 8, _REPLACE, text, len(text))


@contextmanager
def _display() -> Iterator[tuple[ctypes.CDLL | None, int | None]]:
    """A connection of our own, closed afterwards."""
    x11 = _library()
    if x11 is None or "DISPLAY" not in os.environ:
        yield x11, None
        return
    # By default a window that has just gone would end the process.
    ignore = _ERROR_HANDLER(lambda display, event: 0)
    before = x11.XSetErrorHandler(ignore)
    display = x11.XOpenDisplay(None)
    try:
        yield x11, display
    finally:
        if display:
            x11.XCloseDisplay(display)
        x11.XSetErrorHandler(ctypes.cast(before, _ERROR_HANDLER))


def _library() -> ctypes.CDLL | None:
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return None
    x11.XSetErrorHandler.argtypes, x11.XSetErrorHandler.restype = [_ERROR_HANDLER], c_void_p
    x11.XOpenDisplay.argtypes, x11.XOpenDisplay.restype = [c_char_p], c_void_p
    x11.XCloseDisplay.argtypes = [c_void_p]
    x11.XDefaultRootWindow.argtypes = [c_void_p]
    x11.XDefaultRootWindow.restype = c_ulong
    x11.XFetchName.argtypes = [c_void_p, c_ulong, POINTER(c_char_p)]
    x11.XFree.argtypes = [c_void_p]
    x11.XQueryTree.argtypes = [
        c_void_p, c_ulong, POINTER(c_ulong), POINTER(c_ulong), POINTER(POINTER(c_ulong)),
        POINTER(c_uint),
    ]  # fmt: skip
    x11.XInternAtom.argtypes, x11.XInternAtom.restype = [c_void_p, c_char_p, c_int], c_ulong
    x11.XChangeProperty.argtypes = [
        c_void_p, c_ulong, c_ulong, c_ulong, c_int, c_int, c_char_p, c_int,
    ]  # fmt: skip
    return x11


def _search(x11: ctypes.CDLL, display: int, window: int, title: bytes) -> int | None:
    """Depth first: a window manager puts its own windows around ours."""
    name = c_char_p()
    if x11.XFetchName(display, window, byref(name)):
        found = name.value == title
        x11.XFree(name)
        if found:
            return window
    root, parent, count = c_ulong(), c_ulong(), c_uint()
    children = POINTER(c_ulong)()
    if not x11.XQueryTree(
        display, window, byref(root), byref(parent), byref(children), byref(count)
    ):
        return None
    below = children[: count.value] if count.value else []
    if children:
        x11.XFree(children)
    for child in below:
        if (match := _search(x11, display, child, title)) is not None:
            return match
    return None
