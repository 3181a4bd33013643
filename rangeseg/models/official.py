"""The networks that the authors of FIDNet and CENet published, as weights of ours.

Their tensors have other names. What else differs is folded into the weights, so that the logits
are equal (with ``padding: zeros`` and ``align_corners: true``):

1. *Channels.* They normalise by other means and deviations, and FIDNet fills empty pixels with -1.
   Both are linear in our channels and ``valid``, so the first convolution takes them over.
2. *Biases.* FIDNet's two decoder convolutions have a bias before a batch norm: it is subtracted
   from the running mean.
3. *Classes.* Their output 0 is "unlabelled" and is dropped; outputs 1 to 19 are ours in order.

The FIDNet that its authors offer for download also reads surface normals (8 channels). They look
along the axes of a camera (right, down, forward), ours along those of the points.

One pixel differs: CENet takes that of a scan's first point for empty, and FIDNet has no normal
there.

Reference:
    https://github.com/placeforyiming/IROS21-FIDNet-SemanticKITTI (network/ResNet.py,
    dataloader/Dataset_semanticKITTI.py) and https://github.com/huixiancheng/CENet
    (modules/network/ResNet.py, config/arch/senet-*.yml).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rangeseg.errors import CheckpointError
from rangeseg.geometry.normals import NORMALS

VALID = "valid"
"""The channel that tells empty pixels apart."""

OUTPUTS = 20
"""Of the published networks: unlabelled, then the 19 classes of SemanticKITTI."""


@dataclass(frozen=True)
class OfficialNetwork:
    """What the authors' code says of a network.

    Attributes:
        title: its name in messages.
        widths: columns of its published range images.
        statistics: channel -> (mean, standard deviation), in the order of its inputs.
        empty: the value of every channel in an empty pixel, before the normalisation; None where
            it is 0 after it. Normals are 0 there.
        modules: name of a module of ours -> theirs.
        normals: likewise of the normals that some of its checkpoints read besides, which come last.
    """

    title: str
    widths: tuple[int, ...]
    statistics: Mapping[str, tuple[float, float]]
    empty: float | None
    modules: Mapping[str, str]
    normals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[str, ...]:
        """Those of our range images, in the order of the first convolution."""
        return (*self.statistics, VALID)

    def variant(self, found: Mapping[str, Tensor]) -> OfficialNetwork:
        """The network of a state_dict: with normals if its first convolution reads them."""
        name = f"{self.modules[_FIRST]}.weight"
        first = found.get(name, found.get(f"{_PARALLEL}{name}"))
        both = {**self.statistics, **self.normals}
        if first is None or first.ndim != 4 or first.shape[1] != len(both):
            return self
        return replace(self, statistics=both)


def _stages(prefix: str) -> dict[str, str]:
    """The modules of the residual stages, which have the same names in both."""
    block = {
        "conv1": "conv1", "norm1": "bn1", "conv2": "conv2", "norm2": "bn2",
        "shortcut.0": "downsample.0", "shortcut.1": "downsample.1",
    }  # fmt: skip
    return {
        f"stages.{stage}.{number}.{ours}": f"{prefix}layer{stage + 1}.{number}.{theirs}"
        for stage, blocks in enumerate((3, 4, 6, 3))
        for number in range(blocks)
        for ours, theirs in block.items()
    }


OFFICIAL: dict[str, OfficialNetwork] = {
    "fidnet": OfficialNetwork(
        title="FIDNet",
        widths=(2048,),
        statistics={
            "x": (0.0, 50.0), "y": (0.0, 50.0), "z": (0.0, 3.0), "intensity": (0.0, 1.0),
            "range": (0.0, 80.0),
        },
        empty=-1.0,
        modules={
            "stem.0.0": "backend.conv1", "stem.0.1": "backend.bn_0",
            "stem.1.0": "backend.conv2", "stem.1.1": "backend.bn",
            "stem.2.0": "backend.conv3", "stem.2.1": "backend.bn_1",
            "stem.3.0": "backend.conv4", "stem.3.1": "backend.bn_2",
            **_stages("backend."),
            "decoder.0.0": "semantic_head.conv_1", "decoder.0.1": "semantic_head.bn1",
            "decoder.1.0": "semantic_head.conv_2", "decoder.1.1": "semantic_head.bn2",
            "classifier": "semantic_head.semantic_output",
        },
        normals={"normal_y": (0.0, -1.0), "normal_z": (0.0, -1.0), "normal_x": (0.0, 1.0)},
    ),
    "cenet": OfficialNetwork(
        title="CENet",
        widths=(512, 1024, 2048),
        statistics={
            "range": (11.71279, 10.24), "x": (-0.1023471, 12.295865), "y": (0.4952, 9.4287),
            "z": (-1.0545, 0.8643), "intensity": (0.2877, 0.1450),
        },
        empty=None,
        modules={
            "stem.0.0": "conv1.conv", "stem.0.1": "conv1.bn",
            "stem.1.0": "conv2.conv", "stem.1.1": "conv2.bn",
            "stem.2.0": "conv3.conv", "stem.2.1": "conv3.bn",
            **_stages(""),
            "decoder.0.0": "conv_1.conv", "decoder.0.1": "conv_1.bn",
            "decoder.1.0": "conv_2.conv", "decoder.1.1": "conv_2.bn",
            "classifier": "semantic_output",
            "auxiliary_classifiers.0": "aux_head1", "auxiliary_classifiers.1": "aux_head2",
            "auxiliary_classifiers.2": "aux_head3",
        },
    ),
}  # fmt: skip
"""By the name in MODELS."""

_FIRST, _AUXILIARY = "stem.0.0", "auxiliary_classifiers"
_PARALLEL = "module."  # before the names of a network in DataParallel
_DECODER = {"decoder.0.0": "decoder.0.1", "decoder.1.0": "decoder.1.1"}
"""Convolutions without bias here, and the batch norm after each."""


def translate(
    official: OfficialNetwork,
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    statistics: Mapping[str, tuple[float, float]],
) -> dict[str, Tensor]:
    """The state of our network that computes what the official one does.

    Args:
        official: which network; see ``variant``.
        found: its state_dict; of a network in ``DataParallel`` too.
        wanted: the state_dict of ours, which reads ``official.channels``; the meta device will do.
        statistics: (mean, standard deviation) of each channel of our range images; a channel that
            is not in it is not normalised.

    Returns:
        All names of ``wanted``. Auxiliary heads that are not found are zero.

    Raises:
        CheckpointError: it is another network, or one of other channels or classes, or a number is
            not finite.
    """
    found = {name.removeprefix(_PARALLEL): tensor for name, tensor in found.items()}
    names = {ours: _name(official, ours) for ours in wanted}
    _check_names(official, found, names)
    _check_shapes(official, found, wanted, names)
    state = {}
    for ours, theirs in names.items():
        tensor = found.get(theirs)
        if tensor is None:
            tensor = torch.zeros(wanted[ours].shape, dtype=wanted[ours].dtype)
        elif not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{theirs} holds numbers that are not finite")
        elif _is_head(ours):
            tensor = tensor[1:]
        state[ours] = tensor
    for conv, norm in _DECODER.items():
        bias = found.get(f"{official.modules[conv]}.bias")
        if bias is not None:
            state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - bias
    bias_name = f"{_FIRST}.bias"
    weight, bias = _with_our_channels(
        official, state[f"{_FIRST}.weight"], state.get(bias_name), statistics
    )
    state[f"{_FIRST}.weight"] = weight
    if bias is not None:
        state[bias_name] = bias
    return state


def _name(official: OfficialNetwork, ours: str) -> str:
    module, _, leaf = ours.rpartition(".")
    return f"{official.modules[module]}.{leaf}"


def _is_head(ours: str) -> bool:
    return ours.startswith(("classifier.", f"{_AUXILIARY}."))


def _check_names(
    official: OfficialNetwork, found: Mapping[str, Tensor], names: Mapping[str, str]
) -> None:
    biases = {f"{official.modules[conv]}.bias" for conv in _DECODER}
    # Not every CENet was trained with auxiliary heads, and the count of batches changes nothing.
    optional = {
        theirs
        for ours, theirs in names.items()
        if ours.startswith(_AUXILIARY) or ours.endswith("num_batches_tracked")
    }
    missing = [theirs for theirs in names.values() if theirs not in {*found, *optional}]
    strange = [theirs for theirs in found if theirs not in {*names.values(), *biases}]
    if missing or strange:
        parts = (("without", missing), ("with", strange))
        said = " and ".join(f"{word} {_some(keys)}" for word, keys in parts if keys)
        raise CheckpointError(f"this is no published {official.title}, but a network {said}")


def _check_shapes(
    official: OfficialNetwork,
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    names: Mapping[str, str],
) -> None:
    first, classifier = (found[_name(official, f"{m}.weight")] for m in (_FIRST, "classifier"))
    channels = first.shape[1] if first.ndim == 4 else 0
    if channels != len(official.statistics):
        known = len(official.statistics)
        more = f" or {known + len(official.normals)} (with normals)" if official.normals else ""
        raise CheckpointError(
            f"this {official.title} reads {channels} channels: only one of {known} "
            f"({', '.join(official.statistics)}){more} can be imported"
        )
    outputs = classifier.shape[0] if classifier.ndim else 0
    if outputs != OUTPUTS:
        raise CheckpointError(
            f"this {official.title} has {outputs} outputs: only one of {OUTPUTS}, "
            "unlabelled and the 19 classes of SemanticKITTI, can be imported"
        )
    shapes = {
        theirs: _official_shape(official, ours, wanted[ours]) for ours, theirs in names.items()
    }
    for conv, norm in _DECODER.items():
        shapes[f"{official.modules[conv]}.bias"] = tuple(wanted[f"{norm}.bias"].shape)
    wrong = [f"{n} {_shape(t)}" for n, t in found.items() if t.shape != shapes[n]]
    if wrong:
        raise CheckpointError(f"this is no published {official.title}: it has {_some(wrong)}")


def _official_shape(official: OfficialNetwork, ours: str, tensor: Tensor) -> tuple[int, ...]:
    """The shape of their tensor: one output more in a head, one channel less in the first layer."""
    shape = tuple(tensor.shape)
    if _is_head(ours):
        return OUTPUTS, *shape[1:]
    if ours == f"{_FIRST}.weight":
        return shape[0], len(official.statistics), *shape[2:]
    return shape


def _with_our_channels(
    official: OfficialNetwork,
    weight: Tensor,
    bias: Tensor | None,
    statistics: Mapping[str, tuple[float, float]],
) -> tuple[Tensor, Tensor | None]:
    """The first convolution, so that it reads our channels and ``valid``.

    With ``u`` our normalised channel (0 where empty), ``v`` the validity and ``e`` their value of
    an empty pixel, theirs is ``scale * u + (shift - e) * v + e``.

    Args:
        official: which network.
        weight: (O,C,h,w) of the official convolution.
        bias: (O,); None without.
        statistics: of our channels.

    Returns:
        (O,C+1,h,w) and the bias.
    """
    channels = list(official.statistics)
    theirs = torch.tensor([official.statistics[c] for c in channels], dtype=torch.float64)
    ours = torch.tensor([statistics.get(c, (0.0, 1.0)) for c in channels], dtype=torch.float64)
    scale = ours[:, 1] / theirs[:, 1]
    shift = (ours[:, 0] - theirs[:, 0]) / theirs[:, 1]
    empty = torch.zeros_like(shift)
    if official.empty is not None:
        absent = torch.tensor([0.0 if c in NORMALS else official.empty for c in channels])
        empty = (absent - theirs[:, 0]) / theirs[:, 1]
    exact = weight.double()
    of_valid = torch.einsum("ochw,c->ohw", exact, shift - empty)
    folded = torch.cat([exact * scale[:, None, None], of_valid[:, None]], dim=1)
    if bias is not None:
        bias = (bias.double() + torch.einsum("ochw,c->o", exact, empty)).to(weight.dtype)
    return folded.to(weight.dtype), bias


def _shape(tensor: Tensor) -> str:
    return "x".join(str(n) for n in tensor.shape)


def _some(keys: list[str]) -> str:
    """The first few of many."""
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
