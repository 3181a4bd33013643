"""Errors for the user, each with its exit code."""

from typing import Literal

DataFault = Literal["missing", "truncated", "mismatch", "unknown_id", "other"]


class RangesegError(Exception):
    """An error with an explaining message: what was found, where, what to do."""

    exit_code = 1


class ConfigError(RangesegError):
    """A wrong setting, name or argument."""

    exit_code = 2


class DataError(RangesegError):
    """Scans, labels or split lists are missing, damaged or inconsistent.

    Args:
        message: what was found, where, and what to do.
        kind: kind of fault, to count them.
    """

    exit_code = 3

    def __init__(self, message: str, kind: DataFault = "other") -> None:
        super().__init__(message)
        self.kind = kind


class CheckpointError(RangesegError):
    """A checkpoint is missing, damaged or from another network."""

    exit_code = 3


class LostProcessError(RangesegError):
    """Another of the joined processes has ended.

    Args:
        message: remedy.
        spoken_for: whether another process reports the reason, so that this one is silent.
    """

    def __init__(self, message: str, spoken_for: bool) -> None:
        super().__init__(message)
        self.spoken_for = spoken_for


def one_line(error: BaseException) -> str:
    """Shorten any library's error message to one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def unknown_name(kind: str, name: str, known: "list[str] | tuple[str, ...]") -> ConfigError:
    """The error for an unregistered name; it lists the options and suggests the nearest."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return ConfigError(f"unknown {kind} '{name}'{hint}; known: {', '.join(sorted(known))}")
