"""Plan the runs of a command."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.simulated import ensure_simulated
from rangeseg.datasets.splits import Labels, labelled_and_unlabelled, parse_labels
from rangeseg.engine.evaluation import scans_to_evaluate
from rangeseg.errors import ConfigError
from rangeseg.methods import METHODS, find_method
from rangeseg.report.rows import CONTROLS, Row, row_name
from rangeseg.runs.as_published import warn_of_our_branch
from rangeseg.runs.config import Config, RunConfig, RunSettings, load_config, load_run_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import CONFIG, check_labelled, run_folder
from rangeseg.runs.jobs import PlannedRun

logger = logging.getLogger(__name__)


def plan_run(config: Config, method: str, labels: Labels, seed: int) -> RunConfig:
    """Make the configuration of a run.

    Args:
        config: configuration of the data set.
        method: a name in METHODS.
        labels: the labelled scans.
        seed: seed of every random draw.

    Raises:
        ConfigError: an unknown method, or a wrong seed.
    """
    find_method(method)
    if not 0 <= seed < 1 << 32:
        raise ConfigError(f"--seed {seed}: give a whole number from 0 to {(1 << 32) - 1}")
    values = config.model_dump()
    # Absolute, so that a run finds its data from any working directory.
    values["dataset"]["root"] = config.dataset.root.resolve()
    for name in ("poses", "folder"):
        if (path := values["train"]["propagation"][name]) is not None:
            values["train"]["propagation"][name] = path.expanduser().resolve()
    if (path := config.train.init) is not None:
        values["train"]["init"] = path.expanduser().resolve()
    run = RunSettings(method=method, labels=labels, seed=seed)
    return RunConfig.model_validate(values | {"run": run})


def plan_comparison(
    path: Path,
    overrides: Sequence[str],
    methods: Sequence[str],
    labels: Sequence[str],
    seeds: Sequence[int],
    split: str | None,
    out: Path,
) -> list[PlannedRun]:
    """Plan the runs of a comparison, seed by seed, so that early results are comparable.

    Methods use the configuration's labelled branch (``train.labelled``). The supervised controls,
    plain, strong and that of the methods' branch, are always included, with propagation also
    without it. If no scan is left unlabelled, they are the only runs. A simulated data set is
    generated here, once for all runs.

    Args:
        path: the configuration of the data set.
        overrides: ``key=value`` for all runs.
        methods: names of methods; ``all`` means every one.
        labels: ratios or split files.
        seeds: number of seeds; one for all ``labels``, or one for each.
        split: split to evaluate; None takes the configuration's.
        out: folder of the runs.

    Raises:
        ConfigError: a setting, name or number is wrong, or a run was begun with other settings or
            labelled scans.
        DataError: scans are missing, or a list does not fit.
    """
    for override in overrides:
        if override.partition("=")[0] == "evaluate.split":
            raise ConfigError(f"--set {override}: give the split with --split")
    judged = [] if split is None else [f"evaluate.split={split}"]
    common = load_config(path, [*overrides, *judged])
    warn_of_our_branch(path, common)
    chosen = list(METHODS) if "all" in methods else list(methods)
    branch = common.train.labelled
    rows = dict.fromkeys([*CONTROLS, *(Row(m, branch) for m in ("supervised", *chosen))])
    learns = {row.method: find_method(row.method).uses_unlabelled for row in rows}
    budgets = [parse_labels(text) for text in labels]  # 0.1 and 10% are the same
    counts = _seeds_of_each(labels, seeds)
    settings = _settings_of(rows, common)
    configs = {own: load_config(path, [*overrides, *own, *judged]) for own in {*settings.values()}}
    source = Experiment(common).source
    ensure_simulated(source)
    complete = _all_labelled(common, source, budgets)

    @cache
    def labelled(budget: Labels, seed: int) -> list[str]:
        return labelled_and_unlabelled(source, budget, seed)[0]

    runs: dict[Path, PlannedRun] = {}
    for seed in range(max(counts)):
        for budget, count in zip(budgets, counts, strict=True):
            for row, own in settings.items():
                unlabelled = learns[row.method] or row.propagation
                if seed >= count or (unlabelled and budget in complete):
                    continue
                config = plan_run(configs[own], row.method, budget, seed)
                run = _planned(row, config, path, [*overrides, *own], out, labelled)
                if run.folder in runs:
                    raise ConfigError(
                        f"--labels {' '.join(labels)}: two of these are kept in {run.folder.parent}"
                        ": name each ratio once, and give split files different names"
                    )
                runs[run.folder] = run
    return list(runs.values())


def _settings_of(rows: Iterable[Row], common: Config) -> dict[Row, tuple[str, ...]]:
    """The settings of each row apart from the common ones.

    If these propagate labels, the controls are trained with and without propagation.
    """
    own: dict[Row, tuple[str, ...]] = {row: (f"train.labelled={row.labelled}",) for row in rows}
    reach = common.train.propagation.reach
    if not reach:
        return own
    settings = {row: (*own[row], "train.propagation.reach=0") for row in rows if row.is_control}
    return settings | {row._replace(propagation=f"reach {reach}"): own[row] for row in own}


def _seeds_of_each(labels: Sequence[str], seeds: Sequence[int]) -> list[int]:
    if len(seeds) not in (1, len(labels)) or min(seeds) < 1:
        raise ConfigError(
            f"--seeds {' '.join(map(str, seeds))} for {len(labels)} --labels: give one number for "
            "all, or one for each, from 1 on"
        )
    return list(seeds) if len(seeds) == len(labels) else list(seeds) * len(labels)


def _all_labelled(config: Config, source: ScanSource, budgets: Sequence[Labels]) -> set[Labels]:
    """The budgets that leave no scan unlabelled; also checks data and labels."""
    scans_to_evaluate(source, config.evaluate.split)
    complete = {b for b in budgets if not labelled_and_unlabelled(source, b, 0)[1]}
    for budget in sorted(complete, key=str):
        logger.info("%s leaves no scan unlabelled: supervised training only", budget)
    return complete


def _planned(
    row: Row,
    config: RunConfig,
    path: Path,
    overrides: Sequence[str],
    out: Path,
    labelled: Callable[[Labels, int], list[str]],
) -> PlannedRun:
    run, split = config.run, config.evaluate.split
    folder = out / run_folder(config).relative_to("runs")
    begun_split = split
    if (folder / CONFIG).is_file():
        begun = load_run_config(folder / CONFIG)
        begun_split = begun.evaluate.split
        _check_same(begun, config, folder)
        check_labelled(folder, run.labels, labelled(run.labels, run.seed))
    words = ["train", str(path), "--method", run.method, "--labels", str(run.labels)]
    words += ["--seed", str(run.seed), "--out", str(folder), "--resume"]
    for setting in [*overrides, f"evaluate.split={begun_split}"]:
        words += ["--set", setting]
    title = f"{row_name(row)}, {run.labels}, seed {run.seed}"
    return PlannedRun(title, folder, split, begun_split, config.dataset.root, tuple(words))


def _check_same(begun: RunConfig, config: RunConfig, folder: Path) -> None:
    """Check that a run was begun with the plan's settings; data may move, splits may differ."""
    was, now = (
        {**c.of_the_figures(), "train.init": c.comparable()["train.init"]} for c in (begun, config)
    )
    for key in sorted(was.keys() | now.keys()):
        # Only the run's own process resolves ``auto``, and checks it again.
        if was.get(key) != now.get(key) and (key, now.get(key)) != ("train.precision", "auto"):
            raise ConfigError(
                f"{folder / CONFIG} has {key}={was.get(key)} where this comparison has "
                f"{now.get(key)}: compare with the same settings, or choose another --out"
            )
