"""``rangeseg-data propagate``: carry the labels of labelled scans along the poses to others."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.source import add_source, open_source
from rangeseg.commands.base import Commands, add_command
from rangeseg.commands.options import from_options

if TYPE_CHECKING:
    from rangeseg.motion.store import PropagationPlan


def add(commands: Commands) -> None:
    """Add the command."""
    propagate = add_command(
        commands, "propagate", run,
        summary="carry labels along the poses to the scans around the labelled ones",
        example="rangeseg-data propagate semantic_kitti data/semantic_kitti --labels 1% "
        "--reach 10 --out propagated --verify",
    )  # fmt: skip
    add_source(propagate)
    propagate.add_argument(
        "--labels", metavar="RATIO|LIST", required=True,
        help="share of labelled scans (1%%), drawn with the seed, or a file with one SEQ/FRAME a "
        "line",
    )  # fmt: skip
    propagate.add_argument("--seed", type=int, default=0, help="seed of the draw (%(default)s)")
    propagate.add_argument(
        "--reach", default="10", metavar="N",
        help="how far labels are carried: frames (10), metres (15m) or seconds (1.5s) (default: "
        "%(default)s)",
    )  # fmt: skip
    propagate.add_argument(
        "--distance", type=float, metavar="M",
        help="largest distance in metres to a voting labelled point (default: 1.2)",
    )  # fmt: skip
    propagate.add_argument(
        "--min-confidence", type=float, metavar="P",
        help="least confidence of a label: its share of the votes and one more (default: 0.8)",
    )  # fmt: skip
    propagate.add_argument(
        "--poses", type=Path, metavar="DIR",
        help="poses of the LiDAR, one file SEQUENCE.txt for each sequence, e.g. from "
        "`rangeseg-data poses` (default: the data set's own)",
    )  # fmt: skip
    propagate.add_argument(
        "--out", metavar="DIR", type=Path, required=True,
        help="output folder of the label files; the same call completes an interrupted one",
    )  # fmt: skip
    propagate.add_argument(
        "--verify", action="store_true",
        help="compare with the data set's own labels of these scans",
    )  # fmt: skip
    propagate.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Propagate labels, and print a summary."""
    from rangeseg.datasets.splits import labelled_and_unlabelled, parse_labels
    from rangeseg.motion.propagation import PropagationSettings
    from rangeseg.motion.store import plan_propagation
    from rangeseg.motion.verify import verify
    from rangeseg.motion.write import write_propagation

    names = ("reach", "distance", "min_confidence", "poses")
    settings = from_options(PropagationSettings, {n: getattr(arguments, n) for n in names})
    source = open_source(arguments)
    source.check_root()
    labels = parse_labels(arguments.labels)
    labelled, _ = labelled_and_unlabelled(source, labels, arguments.seed)
    plan = plan_propagation(source, labelled, settings)
    propagation = write_propagation(source, plan, arguments.out, str(labels), arguments.seed)
    found: dict[str, Any] = {"right": None, "covered": None}
    if arguments.verify:
        found = verify(propagation, plan.apart).document()
    document = {
        **found,
        "labelled": len(labelled),
        "scans": len(plan.sources),
        "poses": plan.origin,
        "settings": settings.model_dump(mode="json"),
        "out": str(arguments.out),
    }
    if arguments.json:
        print(json.dumps(document, indent=2))
    else:
        _print(document, plan)
    return 0


def _print(document: dict[str, Any], plan: PropagationPlan) -> None:
    from rangeseg.report.tables import markdown_table

    print(
        f"{document['out']}: labels for {document['scans']} scans from {document['labelled']} "
        f"labelled ones, reach {plan.settings.reach}, poses: {plan.origin}"
    )
    if document["covered"] is None:
        return
    print(
        f"right {_cent(document['right'])} % of the labels, covered {_cent(document['covered'])} % "
        f"of the points, mIoU {_cent(document['miou'])}"
    )
    header = ["right %", "covered %"]
    for title, key in (("apart", "apart"), ("range", "range"), ("class", "classes")):
        rows = [[name, _cent(s["right"]), _cent(s["covered"])] for name, s in document[key].items()]
        print("\n" + markdown_table([title, *header], rows))


def _cent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
