"""The folder of a run: its files, start and resumption."""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rangeseg.datasets.corruption import KINDS, Corruption
from rangeseg.datasets.split_files import read_split, write_split
from rangeseg.datasets.splits import Labels
from rangeseg.engine.checkpoint import Identity, check_owner
from rangeseg.engine.initial_weights import InitialWeights
from rangeseg.errors import CheckpointError, ConfigError, DataError
from rangeseg.motion.store import PropagatedLabels
from rangeseg.report.rows import init_text, propagation_text
from rangeseg.runs.config import RunConfig, load_run_config
from rangeseg.system.files import LOCK, PARTIAL, writable, write_file

CONFIG = "config.yaml"
LABELLED = "labelled.txt"
PROPAGATION = "propagation.json"
"""Settings of the propagation, for the protocol of results."""
INIT = "init.json"
"""Initial weights of the networks, likewise."""


def run_folder(config: RunConfig) -> Path:
    """``runs/<data set>/<method>/<labels>/seed<N>``.

    The name includes a labelled branch other than strong, propagation and initial weights:
    ``supervised_plain_reach2_init``.
    """
    run, reach = config.run, config.train.propagation.reach
    labelled = "" if config.train.labelled == "strong" else f"_{config.train.labelled}"
    propagated = f"_reach{reach}" if reach else ""
    init = "_init" if config.train.init else ""
    method, seed = run.method + labelled + propagated + init, f"seed{run.seed}"
    return Path("runs") / config.dataset.name / method / run.labels.folder / seed


def result_path(folder: Path, split: str, corruption: Corruption | None = None) -> Path:
    """Path of a result: ``result.json`` for validation; other splits are part of the name.

    So are corruptions: ``result_val_beams_2.json``.
    """
    if corruption is not None:
        named = f"{split}_{corruption}".replace(":", "_")
        return folder / f"result_{named}.json"
    return folder / ("result.json" if split == "val" else f"result_{split}.json")


def result_words(path: Path) -> str:
    """The options of ``rangeseg evaluate`` for a result file, by its name."""
    found = re.fullmatch(rf"result(?:_(.+?))?(?:_({'|'.join(KINDS)})(?:_([\d.]+))?)?", path.stem)
    split, kind, severity = found.groups() if found else (None, None, None)
    words = [f"--split {split}"] if split else []
    if kind:
        words.append(f"--corrupt {kind}" + (f":{severity}" if severity else ""))
    return " ".join(words)


def read_run_config(folder: Path) -> RunConfig:
    """Read the configuration in a run's folder.

    Raises:
        ConfigError: it is not a run folder, or the file is damaged.
    """
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} is not a run folder (no {CONFIG}): give the folder of a run")
    return load_run_config(folder / CONFIG)


# Settings that change a result but not the weights.
_OF_THE_RESULT = ("dataset.description.", "evaluate.", "run.")


def is_begun(config: RunConfig, folder: Path, resume: bool) -> bool:
    """Whether the folder already holds this run; writes nothing.

    Raises:
        ConfigError: the folder holds something else, the run was begun with other settings, or
            ``resume`` is not set.
    """
    if not folder.exists():
        return False
    # Possible remains of a run killed at its beginning.
    left = {LOCK, LABELLED + PARTIAL, CONFIG + PARTIAL}
    if _is_our_list(folder / LABELLED):
        left.add(LABELLED)
    if folder.is_dir() and {p.name for p in folder.iterdir()} <= left:
        return False
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file: choose another --out")
    if not resume:
        raise ConfigError(
            f"{folder} is not empty: add --resume to go on there, or choose another --out"
        )
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} is not a run folder (no {CONFIG}): choose another --out")
    begun = load_run_config(folder / CONFIG)
    was, now = begun.comparable(), config.comparable()
    of_the_weights = begun.of_the_weights().keys() | config.of_the_weights().keys()
    for key in sorted(was.keys() | now.keys()):
        matters = key in of_the_weights or key.startswith(_OF_THE_RESULT)
        if matters and was.get(key) != now.get(key):
            raise ConfigError(
                f"{folder / CONFIG} was begun with {key}={was.get(key)}, now it is {now.get(key)}: "
                "resume with the same settings, or choose another --out"
            )
    return True


def _is_our_list(path: Path) -> bool:
    """Whether a list is from ``begin``; a user may have one of this name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return re.fullmatch(rb"# labelled: .+, seed \d+\n", file.readline(1 << 13)) is not None


def begin(config: RunConfig, folder: Path, labelled: list[str]) -> None:
    """Write the list of labelled scans and the configuration of a new run.

    Raises:
        ConfigError: they cannot be written.
    """
    run = config.run
    with _writable(folder):
        (folder / LABELLED).unlink(missing_ok=True)
        write_split(folder / LABELLED, labelled, f"labelled: {run.labels}, seed {run.seed}")
        write_file(folder / CONFIG, config.resolved())


def go_on(config: RunConfig, folder: Path, labelled: list[str], identity: Identity) -> None:
    """Check the scans of a resumed run, then store changed settings.

    Raises:
        ConfigError: its labels give other scans, or the settings cannot be written.
        CheckpointError: its checkpoint has another identity.
    """
    check_labelled(folder, config.run.labels, labelled)
    if load_run_config(folder / CONFIG).resolved() == config.resolved():
        return
    check_owner(folder, identity)  # a folder that cannot resume keeps its settings
    with _writable(folder / CONFIG):
        write_file(folder / CONFIG, config.resolved())


def note_propagation(config: RunConfig, folder: Path, propagated: PropagatedLabels) -> None:
    """Record the propagation: an evaluation may find no poses.

    Raises:
        ConfigError: it cannot be written.
    """
    names = {"reach", "distance", "movable_distance", "min_confidence", "share"}
    noted = config.train.propagation.model_dump(mode="json", include=names)
    noted |= {"poses": propagated.plan.origin, "scans": len(propagated)}
    with _writable(folder / PROPAGATION):
        write_file(folder / PROPAGATION, json.dumps(noted, indent=2) + "\n")


def read_propagation(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """Read the propagation of a run's training; None without.

    Raises:
        DataError: the file is missing or damaged.
    """
    if not config.train.propagation.reach:
        return None
    path = folder / PROPAGATION
    try:
        noted: dict[str, Any] = json.loads(path.read_text())
        propagation_text(noted), int(noted["scans"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} does not name the propagation of labels ({error!r}): train the run again; "
            "with --resume only the file is written again"
        ) from None
    return noted


def note_init(folder: Path, initial: InitialWeights) -> None:
    """Record the initial weights of a run: their file may disappear.

    Raises:
        ConfigError: it cannot be written.
        CheckpointError: the run was begun with other weights.
    """
    now = initial.record["weights"]
    was = _read_init(folder)["weights"] if (folder / INIT).is_file() else now
    if was != now:
        raise CheckpointError(
            f"{folder} was begun with the weights {was}, but train.init now holds {now}: restore "
            "it, or choose another --out"
        )
    with _writable(folder / INIT):
        write_file(folder / INIT, json.dumps(initial.record, indent=2) + "\n")


def read_init(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """Read the record of a run's initial weights; None for random ones.

    Raises:
        DataError: the file is missing or damaged.
    """
    return None if config.train.init is None else _read_init(folder)


def _read_init(folder: Path) -> dict[str, Any]:
    path = folder / INIT
    try:
        noted: dict[str, Any] = json.loads(path.read_text())
        init_text(noted), int(noted["taken"]), int(noted["tensors"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} does not name the run's initial weights ({error!r}): bring it back "
            "from a copy, or train the run again"
        ) from None
    return noted


def check_labelled(folder: Path, labels: Labels, labelled: list[str]) -> None:
    """Check that the labels still give the run's labelled scans.

    Args:
        folder: folder of the run.
        labels: value of ``--labels``.
        labelled: sorted ids of the scans that the labels give.

    Raises:
        ConfigError: they give others.
    """
    if read_split(folder / LABELLED) != labelled:
        raise ConfigError(
            f"{folder / LABELLED} lists other scans than --labels {labels} now gives: restore the "
            "list and the data as they were, or choose another --out"
        )


def _writable(path: Path) -> AbstractContextManager[None]:
    return writable(path, "make room, or choose another --out")
