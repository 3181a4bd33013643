"""Compare a run's settings with the published ones of its method and data set."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from rangeseg.errors import ConfigError
from rangeseg.runs.config import Config, RunConfig, load_config
from rangeseg.runs.shipped import shipped_config

FOLDER = "published"
"""The folder of the configurations with published settings."""

_log = logging.getLogger(__name__)

# Published figures are per pixel, without back-projection; precision and compilation are not part
# of a protocol.
_NO_MATTER = (
    "run.", "dataset.", "evaluate.back_projection", "evaluate.window", "evaluate.neighbours",
    "evaluate.sigma", "evaluate.cutoff", "evaluate.batch_size", "train.precision", "train.compile",
)  # fmt: skip


def differences(config: RunConfig) -> list[str] | None:
    """The settings that differ from the published configuration of the data set.

    Args:
        config: configuration of a run.

    Returns:
        Lines like ``train.batch_size 2 (published: 8)``; None if nothing was published for the data
        set.
    """
    try:
        path = shipped_config(f"{FOLDER}/{config.dataset.name}.yaml")
    except ConfigError:
        return None
    values = load_config(path).model_dump() | {"run": config.run}
    own, theirs = (c.of_the_figures() for c in (config, RunConfig.model_validate(values)))
    # Only the run may have more keys, such as the settings of propagation.
    return [
        f"{key} {_as_in_yaml(own[key])} (published: {_as_in_yaml(published)})"
        for key, published in sorted(theirs.items())
        if own[key] != published and not key.startswith(_NO_MATTER)
    ]


def _as_in_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def warn_of_our_branch(path: Path, config: Config) -> None:
    """Warn if a published configuration is trained with our labelled branch.

    Args:
        path: the file.
        config: its content, with settings of the command line.
    """
    if path.parent.name == FOLDER and config.train.labelled != "plain":
        _log.warning(
            "%s with train.labelled=%s: our labelled branch was not published, "
            "so the report prints no published figure for such a run; keep plain",
            path,
            config.train.labelled,
        )
