"""The keys of the window: what they do, and how it is explained."""

from __future__ import annotations

from rangeseg.viewer.colours import MODES

HELP = (
    ("n, b", "next, previous scan; hold to run"),
    ("PgDn, PgUp", "10 scans on, back"),
    ("Home, End", "first, last scan"),
    ("1, 2, 3", "truth, prediction, error"),
    ("4, 5, 6, 7", "intensity, range, confidence, pseudo-label coverage"),
    ("s", "truth and prediction side by side"),
    ("i", "hide or show ignored points"),
    ("l", "legend"),
    ("p", "picture into this folder"),
    ("r", "camera as at the start"),
    ("+, -", "larger, smaller points"),
    ("mouse", "drag to turn, with Ctrl to move, wheel to zoom"),
    ("h, q", "this help, quit"),
)
KEYS: dict[str | int, str] = {
    "N": "next", "B": "previous", "S": "side", "I": "ignored", "L": "legend", "P": "picture",
    "H": "help", "Q": "quit", "R": "reset", 266: "back", 267: "on", 268: "first", 269: "last",
    **{str(number + 1): mode for number, mode in enumerate(MODES)},
}  # fmt: skip
"""Key, as GLFW numbers it or as a letter -> what it does."""
