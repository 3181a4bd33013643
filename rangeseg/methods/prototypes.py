"""A cosine classifier with several prototypes per class, learnt without gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rangeseg.datasets.labels import IGNORE
from rangeseg.system.distributed import all_reduce_sum

TEMPERATURE = 0.1
UNSEEN = -1e4
"""The logit of a class without prototypes: probability 0, and no NaN if no class has any."""
KMEANS_STEPS = 5
SPREAD = 0.1
"""Noise added to the class's mean direction, the start of its prototypes."""


class PrototypeHead(nn.Module):
    """A logit is the cosine to the nearest prototype of a class, over the temperature.

    Args:
        num_classes: K.
        count: prototypes P per class.
        channels: channels D of the embedding.
        momentum: momentum of a prototype's running mean.
    """

    prototypes: Tensor
    seen: Tensor

    def __init__(self, num_classes: int, count: int, channels: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("prototypes", torch.zeros(num_classes, count, channels))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    def forward(self, embedding: Tensor) -> Tensor:
        """Embedding (B,D,S) -> logits (B,K,S) float32."""
        with torch.autocast(embedding.device.type, enabled=False):  # cosines over .1 need the bits
            directions = F.normalize(embedding.float(), dim=1)
            prototypes = F.normalize(self.prototypes, dim=2)
            cosines = torch.einsum("kpd,bds->bkps", prototypes, directions).amax(dim=2)
        return torch.where(self.seen[:, None], cosines / TEMPERATURE, UNSEEN)

    def known(self, labels: Tensor) -> Tensor:
        """Whether the class of each label has prototypes; labels have any shape."""
        counts = labels != IGNORE
        return counts & self.seen[torch.where(counts, labels, 0).long()]

    @torch.no_grad()
    def update(self, embedding: Tensor, labels: Tensor) -> None:
        """Move every prototype towards the mean direction of its pixels.

        A pixel belongs to the nearest prototype of its class.

        Args:
            embedding: (N,D).
            labels: (N,) train ids; IGNORE and classes without prototypes do not count.
        """
        directions = F.normalize(embedding.float(), dim=1)
        labels = torch.where(self.known(labels), labels, IGNORE)
        sums, counts = _assign(directions, labels, self.prototypes)
        moved = torch.lerp(sums / counts.clamp(min=1.0), self.prototypes, self.momentum)
        self.prototypes.copy_(torch.where(counts > 0, moved, self.prototypes))

    @torch.no_grad()
    def initialise(self, embedding: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        """Find prototypes by k-means for present classes without any.

        It starts from the class's mean direction plus noise; with fewer pixels than prototypes some
        repeat. It runs at each step: a check for new classes would wait for the device.

        Args:
            embedding: (N,D) embedding of labelled pixels.
            labels: (N,) train ids; IGNORE does not count.
            generator: generator of the noise.
        """
        directions = F.normalize(embedding.float(), dim=1)
        shape, device = self.prototypes.shape, directions.device
        whole = torch.zeros((shape[0], 1, shape[2]), device=device)
        sums, counts = _assign(directions, labels, whole)
        # The sum over processes is the same in each.
        noise = all_reduce_sum(torch.randn(shape, generator=generator, device=device))
        centres = F.normalize(F.normalize(sums, dim=2) + SPREAD * F.normalize(noise, dim=2), dim=2)
        for _ in range(KMEANS_STEPS):
            members, sizes = _assign(directions, labels, centres)
            centres = torch.where(sizes > 0, F.normalize(members, dim=2), centres)
        new = ~self.seen & (counts[:, 0, 0] > 0)
        self.prototypes.copy_(torch.where(new[:, None, None], centres, self.prototypes))
        self.seen |= new


def _assign(directions: Tensor, labels: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Sum (K,P,D) and number (K,P,1) of directions nearest to each centre of their class.

    Args:
        directions: (N,D) unit vectors.
        labels: (N,) train ids; IGNORE does not count.
        centres: (K,P,D).
    """
    num_classes, count, channels = centres.shape
    counts = labels != IGNORE
    own = torch.where(counts, labels, 0).long()
    cosines = torch.einsum("nd,npd->np", directions, F.normalize(centres, dim=2)[own])
    cluster = own * count + cosines.argmax(dim=1)
    # A product with the one-hot assignment adds in a fixed order, unlike index_add on a GPU.
    clusters = torch.arange(num_classes * count, device=directions.device)[:, None]
    one_hot = ((cluster == clusters) & counts).float()  # (K·P, N)
    ones = torch.ones((len(directions), 1), device=directions.device)
    sums = all_reduce_sum(one_hot @ torch.cat([directions, ones], dim=1))
    sums = sums.view(num_classes, count, channels + 1)
    return sums[..., :-1], sums[..., -1:]
