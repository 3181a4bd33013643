"""The methods: one paper per file, registered here."""

from __future__ import annotations

from typing import Any

from rangeseg.errors import unknown_name
from rangeseg.methods.ael import Ael
from rangeseg.methods.base import Method
from rangeseg.methods.cps import Cps
from rangeseg.methods.cutmix_seg import CutMixSeg
from rangeseg.methods.exchange_mix import ExchangeMix
from rangeseg.methods.frustummix import FrustumMix
from rangeseg.methods.lasermix import LaserMix
from rangeseg.methods.mean_teacher import MeanTeacher
from rangeseg.methods.pcr import Pcr
from rangeseg.methods.pseudoseg import PseudoSeg
from rangeseg.methods.supervised import Supervised
from rangeseg.methods.unimatch import UniMatch

METHODS: dict[str, type[Method[Any]]] = {
    "supervised": Supervised,
    "mean_teacher": MeanTeacher,
    "cutmix_seg": CutMixSeg,
    "cps": Cps,
    "pseudoseg": PseudoSeg,
    "pcr": Pcr,
    "ael": Ael,
    "lasermix": LaserMix,
    "frustummix": FrustumMix,
    "unimatch": UniMatch,
    "exchange_mix": ExchangeMix,
}


def find_method(name: str) -> type[Method[Any]]:
    """Find the class of a method.

    Raises:
        ConfigError: no such method.
    """
    if name not in METHODS:
        raise unknown_name("method", name, list(METHODS))
    return METHODS[name]
