"""What can go wrong for a user, each with the exit code of the command line."""

from typing import Literal

DataFault = Literal["missing", "truncated", "mismatch", "unknown_id", "other"]


class RangesegError(Exception):
    """A mistake or a fault that the message explains: what was found, where, what to do."""

    exit_code = 1


class ConfigError(RangesegError):
    """A wrong setting, name or argument."""

    exit_code = 2


class DataError(RangesegError):
    """Scans, labels or split lists that are missing, damaged or do not fit together.

    Args:
        message: what was found, where, and what to do.
        kind: what sort of fault, for counting them.
    """

    exit_code = 3

    def __init__(self, message: str, kind: DataFault = "other") -> None:
        super().__init__(message)
        self.kind = kind


class CheckpointError(RangesegError):
    """A checkpoint that is missing, damaged or belongs to another network."""

    exit_code = 3


class LostProcessError(RangesegError):
    """Another of the processes that work together has ended.

    Args:
        message: what to do.
        spoken_for: whether another process says why, so that nothing is left to say.
    """

    def __init__(self, message: str, spoken_for: bool) -> None:
        super().__init__(message)
        self.spoken_for = spoken_for


def one_line(error: BaseException) -> str:
    """The message of any library's error as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def unknown_name(kind: str, name: str, known: "list[str] | tuple[str, ...]") -> ConfigError:
    """The error for a name that is not registered; it lists the options and the nearest one."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return ConfigError(f"unknown {kind} '{name}'{hint}; known: {', '.join(sorted(known))}")
