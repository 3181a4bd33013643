"""Every shipped YAML, and every way to get one wrong."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from rangeseg.cli import main
from rangeseg.datasets.splits import parse_labels
from rangeseg.errors import ConfigError
from rangeseg.methods import METHODS
from rangeseg.runs.as_published import differences, warn_of_our_branch
from rangeseg.runs.config import Config, RunConfig, check_config, load_config
from rangeseg.runs.plan import plan_run
from rangeseg.settings import Settings

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))
PUBLISHED = [path for path in CONFIGS if path.parent.name == "published"]
MINIMAL = {
    "dataset": {"name": "simulated", "root": "data"},
    "range_image": {"height": 32, "width": 512},
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_shipped_configurations_are_valid_and_print_themselves(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", str(path)]) == 0
    printed = capsys.readouterr().out
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert load_config(again).resolved() == printed
    assert sorted(yaml.safe_load(printed)["methods"]) == sorted(METHODS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_has_settings_in_every_configuration(path: Path, method: str) -> None:
    assert isinstance(load_config(path).method_settings(method), METHODS[method].Settings)


def test_a_published_file_with_our_labelled_branch_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert len(PUBLISHED) == 3
    for path in PUBLISHED:
        warn_of_our_branch(path, load_config(path))
        ours = path.parents[1] / path.name
        warn_of_our_branch(ours, load_config(ours))
        assert not caplog.messages
        warn_of_our_branch(path, load_config(path, ["train.labelled=strong"]))
        (message,) = caplog.messages
        assert message.startswith(f"{path} with train.labelled=strong: our labelled branch was not")
        caplog.clear()


def test_a_run_is_as_far_from_the_published_one_as_its_settings() -> None:
    def differs(path: Path, method: str, *overrides: str) -> list[str] | None:
        config = load_config(path, overrides)
        return differences(plan_run(config, method, parse_labels("10%"), seed=3))

    configs = Path(__file__).parents[2] / "configs"
    for path in PUBLISHED:
        for method in METHODS:
            assert differs(path, method, "dataset.root=elsewhere", "train.workers=0") == []
    kitti = configs / "published" / "semantic_kitti.yaml"
    unlike = ["train.labelled=strong", "methods.cps.weight=1.5", "methods.pcr.weight=9"]
    unlike += ["range_image.crop_width=512"]
    assert differs(kitti, "cps", *unlike, "evaluate.back_projection=nearest_point") == [
        "methods.cps.weight 1.5 (published: 1.0)",
        "range_image.crop_width 512 (published: null)",
        "train.labelled strong (published: plain)",
    ]
    propagated = differs(kitti, "cps", "train.propagation.reach=2")
    assert propagated == ["train.propagation.reach 2 (published: 0)"]
    ours = differs(configs / "semantic_kitti.yaml", "cps")
    assert ours is not None
    assert "model.padding circular (published: zeros)" in ours
    assert len(ours) > 10
    assert differs(configs / "simulated.yaml", "cps") is None


def changed(**groups: object) -> dict:
    return {**MINIMAL, **groups}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (changed(trian={}), r"trian: unknown key \(did you mean 'train'\?\)"),
        (changed(train={"setps": 5}), r"train.setps: unknown key \(did you mean 'steps'\?\)"),
        (changed(train={"zzz": 5}), r"train.zzz: unknown key \(known: accumulate, activation"),
        (changed(train={"augmentation": {"flipp": 1}}), r"did you mean 'flip'\?"),
        (changed(train={"steps": "many"}), r"train.steps: .*valid integer.* \(found 'many'\)"),
        (changed(train={"steps": 0}), r"train: steps must be 1 or more"),
        (changed(train={"steps": True}), r"train.steps: a number is neither .* \(found True\)"),
        (changed(train={"warm_up": False}), r"train.warm_up: a number is neither true nor false"),
        (changed(methods={"cps": {"weight": True}}), r"methods.cps.weight: a number is neither"),
        (
            changed(range_image={"height": 32, "width": 512, "crop_width": True}),
            r"range_image.crop_width: a number is neither",
        ),
        (changed(train={"deterministic": 2}), r"train.deterministic: .*valid boolean"),
        (changed(train={"batch_size": 1}), r"train.batch_size: .*greater than or equal to 2"),
        (changed(train={"labelled": "weak"}), r"train.labelled: .*'plain', 'strong' or 'coin'"),
        (changed(train={"learning_rate": float("nan")}), r"train.learning_rate: .*finite"),
        (changed(evaluate={"window": 4}), r"evaluate.window: window must be odd"),
        (
            changed(dataset={"name": "kitty", "root": "x"}),
            r"dataset.name: unknown data set 'kitty'",
        ),
        (changed(dataset={"name": "simulated"}), r"dataset.root: missing"),
        (changed(dataset=None), r"2 wrong setting.*\n  dataset.name: missing\n  dataset.root: mis"),
        (
            changed(dataset={"name": "simulated", "root": "~nobody-of-this-name/x"}),
            r"dataset.root: unknown home folder: write the path without ~",
        ),
        (changed(model={"name": "fidnt"}), r"model.name: unknown network 'fidnt'.*'fidnet'"),
        (changed(model={"width": 3}), r"model.width: .*multiple of 2"),
        (changed(methods={"cutmixseg": {}}), r"methods: unknown method 'cutmixseg'.*'cutmix_seg'"),
        (changed(methods={"cps": {"wieght": 1}}), r"methods.cps.wieght: .*mean 'weight'"),
        (changed(methods={"cps": {"confidence": 2}}), r"methods.cps.confidence: .*less than or"),
        (changed(methods=[1]), r"methods: .*dictionary"),
        (
            changed(methods={"lasermix": {"bands": [6, 3]}}),
            r"methods.lasermix.bands: write the smallest number of bands, from 2 on, then the larg",
        ),
        (
            changed(train={"cross_entropy": {"hard_pixels": 15}}),
            r"train.cross_entropy.hard_pixels: .*less than or equal to 1 \(found 15\)",
        ),
        ({"dataset": MINIMAL["dataset"]}, r"range_image: missing"),
        (
            changed(range_image={"height": 32, "width": 500}),
            r"range_image.width: .*multiple of 8 \(found 500\)",
        ),
        (
            changed(range_image={"height": 32, "width": 512, "crop_width": 1024}),
            r"range_image: crop_width 1024 exceeds width 512",
        ),
        (
            changed(range_image={"height": 32, "width": 512, "channels": ["range", "rnage"]}),
            r"range_image.channels.1: ",
        ),
        (
            changed(range_image={"height": 32, "width": 512, "channels": ["x", "x"]}),
            r"channels must name each channel once",
        ),
        (
            changed(range_image={"height": 32, "width": 512, "layers": 0}),
            r"range_image.layers: .*greater than or equal to 1 \(found 0\)",
        ),
        (
            changed(range_image={"height": 32, "width": 512, "layers": 17}),
            r"range_image.layers: .*less than or equal to 16 \(found 17\)",
        ),
        (
            changed(range_image={"height": 32, "width": 512, "layers": 3}),
            r"layers=3, but fidnet classifies pixels, .* a network of points \(frnet\)",
        ),
        (
            changed(model={"name": "frnet"}, evaluate={"back_projection": "knn_vote"}),
            r"knn_vote is of pixels, but range_image.layers=5: take nearest_point",
        ),
    ],
)
def test_wrong_settings_are_named(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(Config, values, "test.yaml")


def test_a_list_of_numbers_holds_no_truth() -> None:
    class Classes(Settings):
        ids: tuple[int, ...]

    assert Classes.model_validate({"ids": [0, 1]}).ids == (0, 1)
    with pytest.raises(ValidationError, match="a number is neither true nor false"):
        Classes.model_validate({"ids": [0, True]})


def test_all_errors_come_at_once() -> None:
    values = changed(train={"setps": 1, "batch_size": 0}, methods={"cps": {"x": 1}})
    with pytest.raises(ConfigError, match=r"test.yaml: 3 wrong setting"):
        check_config(Config, values, "test.yaml")


def test_scientific_notation_without_a_dot_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(MINIMAL) + "train: {learning_rate: 1e-3}\n")
    assert load_config(path).train.learning_rate == 0.001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not YAML"),
        ("- 1", "holds list"),
        ("", "holds NoneType"),
        ("!!python/object/apply:os.getcwd []", "is not YAML"),
        (
            "train:\n  steps: 5\nmodel: {width: 4}\n'train':\n  batch_size: 2",
            r"c\.yaml: 'train' is in line 1 and again in line 4: remove one of the two",
        ),
        ("train: {steps: 5, steps: 6}", "'steps' is in line 1 and again in line 1"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_merged_keys_are_not_keys_that_stand_twice(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        yaml.safe_dump(MINIMAL)
        + "methods:\n"
        + "  cps: &own {<<: &all {weight: 3, confidence: 0.5}, weight: 2}\n"
        + "  pcr: {<<: *own, weight: 1}\n"
    )
    config = load_config(path)
    assert config.methods["cps"] == {"weight": 2, "confidence": 0.5}
    assert config.methods["pcr"] == {"weight": 1, "confidence": 0.5}


@pytest.mark.parametrize("group", ["train", "model", "evaluate", "methods"])
def test_a_group_whose_lines_are_comments_is_empty(tmp_path: Path, group: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    without = load_config(path).resolved()
    path.write_text(yaml.safe_dump(MINIMAL) + f"{group}:\n  # steps: 5\n")
    assert load_config(path).resolved() == without


def test_what_is_set_fills_an_empty_group(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(MINIMAL) + "train:\nmethods:\n  cps:\n  pcr:\n")
    config = load_config(path, ["train.steps=5", "methods.cps.weight=2"])
    assert config.train.steps == 5
    assert config.methods == {"cps": {"weight": 2}, "pcr": {}}


def test_a_root_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    values = changed(dataset={"name": "simulated", "root": "~/scans"})
    assert check_config(Config, values, "test.yaml").dataset.root == tmp_path / "scans"


def test_what_is_computed_twice_changes_no_result() -> None:
    """tests/engine/test_trainer.py: the same weights; so it may change on the way."""
    run = {"method": "cps", "labels": "1%", "seed": 0}
    off, on = (
        check_config(RunConfig, changed(run=run, train={"activation_checkpointing": flag}), "c")
        for flag in (False, True)
    )
    assert off != on
    assert off.of_the_weights() == on.of_the_weights()
    assert off.of_the_figures() == on.of_the_figures()


def test_figures_of_another_split_are_of_the_same_settings() -> None:
    """A comparison may be extended to more seeds with another split."""
    run = {"method": "cps", "labels": "1%", "seed": 0}
    val, test, wider = (
        check_config(RunConfig, changed(run=run, evaluate=settings), "c").of_the_figures()
        for settings in ({"split": "val"}, {"split": "test"}, {"window": 7})
    )
    assert val == test
    assert val != wider


def test_what_is_not_set_is_shown_too(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    shown = load_config(path).resolved()
    assert "crop_width: null" in shown
    path.write_text(shown)
    assert load_config(path).resolved() == shown


def test_a_network_of_points_has_layers_unless_they_are_set() -> None:
    def layers(name: str, **image: int) -> int:
        values = {**MINIMAL, "model": {"name": name}}
        values["range_image"] = {**MINIMAL["range_image"], **image}
        return check_config(Config, values, "here").range_image.layers

    assert [layers("fidnet"), layers("frnet"), layers("frnet", layers=2)] == [1, 5, 2]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        load_config(Path("nowhere.yaml"))


def test_set_changes_and_adds(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    words = ["train.steps=7", "methods.cps.weight=0.5", "range_image.channels=[range, z]"]
    config = load_config(path, words)
    assert config.train.steps == 7
    assert config.methods["cps"] == {"weight": 0.5}
    assert config.range_image.channels == ("range", "z")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.steps", "write key=value"),
        ("train.steps.more=1", "'steps' holds a value"),
        ("train.steps=[", r"--set train\.steps=\[: .* is not YAML"),
        ("train.setps=1", "did you mean 'steps'"),
        ("train.steps=-3", r"c\.yaml with --set: 1 wrong setting\(s\)\n  train\.steps: .*-3"),
        ("train={steps: 1, steps: 2}", r"--set train=.*: 'steps' is in line 1 and again"),
    ],
)
def test_wrong_overrides(tmp_path: Path, word: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "train": {"steps": 5}}))
    with pytest.raises(ConfigError, match=message):
        load_config(path, [word])
