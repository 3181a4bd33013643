"""Draw and apply the strong perturbation on the device.

It moves no pixel, so pseudo-labels of the weak view fit the strong one. Rotation and flip move
pixels; they are drawn once per scan before projection, and both views share them.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from rangeseg.methods.layers import front, per_channel
from rangeseg.methods.mixing import Fields, box_mask
from rangeseg.settings import Settings

# The jitter of a pixel also scales its step channels. Steps to jittered or dropped neighbours are
# not recomputed, so steps get less noise than ranges.
METRIC_CHANNELS = ("range", "x", "y", "z", "range_step", "height_step")
"""Channels in metres, which scale with the length of the ray."""


class PerturbationSettings(Settings):
    """Strengths of the strong view; the values are our choice for LiDAR, not from a paper."""

    scale: float = Field(default=0.05, ge=0, lt=1)  # ranges of a scan times 1 ± this
    jitter: float = Field(default=0.002, ge=0)  # std of a pixel's relative range noise
    intensity_gain: float = Field(default=0.2, ge=0)  # std of log gain
    intensity_bias: float = Field(default=0.05, ge=0)  # std
    drop_intensity: float = Field(default=0.1, ge=0, le=1)  # probability, per scan
    drop_pixels: float = Field(default=0.1, ge=0, le=1)  # largest share of pixels dropped
    drop_patches: int = Field(default=2, ge=0)  # patches dropped per scan
    patch_share: float = Field(default=0.1, gt=0, le=1)  # largest share of the height, of the width


class StrongPerturbation(nn.Module):
    """Makes the strong view of a batch.

    It is a module, so that its constants move to the device once; it adds nothing to checkpoints.

    Args:
        settings: the strengths.
        channels: names of the image channels.
        statistics: (mean, std) of each channel, used to normalise the images.
    """

    metric: Tensor
    offset: Tensor

    def __init__(
        self,
        settings: PerturbationSettings,
        channels: tuple[str, ...],
        statistics: tuple[tuple[float, float], ...],
    ) -> None:
        super().__init__()
        self.settings = settings
        # A factor f on a metric value v is f·n + (f-1)·mean/std on the normalised n.
        metric = torch.tensor([c in METRIC_CHANNELS for c in channels])
        offset = torch.tensor([mean / std for mean, std in statistics])
        self.register_buffer("metric", metric, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self._intensity = channels.index("intensity") if "intensity" in channels else None
        if self._intensity is not None:
            self._intensity_mean, self._intensity_std = statistics[self._intensity]

    def forward(self, fields: Fields, generator: torch.Generator) -> Fields:
        """Make the strong view: ``image`` perturbed, ``valid`` without dropped pixels.

        Other fields are unchanged; ``valid`` takes dropped pixels out of the losses.
        """
        image, valid = fields["image"], fields["valid"]
        dropped = self._dropped(front(valid), generator)
        kept = valid & ~(dropped if valid.dim() == 3 else dropped[:, None])  # a pixel's points
        image = self._stretch(image, generator)
        if self._intensity is not None:
            image = self._change_intensity(image, self._intensity, generator)
        return {**fields, "image": image * kept[:, None], "valid": kept}

    def _stretch(self, image: Tensor, generator: torch.Generator) -> Tensor:
        batch, _, *size = image.shape
        device = image.device
        draw = torch.rand((batch, 1, *[1] * len(size)), generator=generator, device=device)
        scale = 1 + self.settings.scale * (2 * draw - 1)
        noise = torch.randn((batch, 1, *size), generator=generator, device=device)
        factor = scale * (1 + self.settings.jitter * noise)
        metric, offset = per_channel(self.metric, image), per_channel(self.offset, image)
        return torch.where(metric, factor * image + (factor - 1) * offset, image)

    def _change_intensity(self, image: Tensor, channel: int, generator: torch.Generator) -> Tensor:
        device = image.device
        per_scan = image.shape[0], *[1] * (image.dim() - 2)
        draw = torch.randn((2, *per_scan), generator=generator, device=device)
        gain = torch.exp(self.settings.intensity_gain * draw[0])
        bias = self.settings.intensity_bias * draw[1]
        value = image[:, channel] * self._intensity_std + self._intensity_mean
        value = (gain * value + bias - self._intensity_mean) / self._intensity_std
        absent = torch.rand(per_scan, generator=generator, device=device)
        value = torch.where(absent < self.settings.drop_intensity, 0.0, value)
        image = image.clone()
        image[:, channel] = value
        return image

    def _dropped(self, valid: Tensor, generator: torch.Generator) -> Tensor:
        batch, height, width = valid.shape
        device = valid.device
        share = self.settings.drop_pixels * torch.rand(
            (batch, 1, 1), generator=generator, device=device
        )
        dropped = torch.rand(valid.shape, generator=generator, device=device) < share
        for _ in range(self.settings.drop_patches):
            sides = self.settings.patch_share * torch.rand(
                (2, batch), generator=generator, device=device
            )
            dropped |= box_mask(sides[0], sides[1], (batch, height, width), generator)
        return dropped


def drop_channels(feature: Tensor, start: int, share: float, generator: torch.Generator) -> Tensor:
    """Set whole channels of some scans' features to zero.

    Other channels are scaled up to keep the expected value.

    Args:
        feature: (B,C,h,w).
        start: scans before it keep all channels.
        share: share of dropped channels, below 1.
        generator: generator on the feature's device.

    Reference:
        Yang et al. 2023, "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic
        Segmentation", Sec. 3.2.
    """
    shape = *feature.shape[:2], *[1] * (feature.dim() - 2)
    draw = torch.rand(shape, generator=generator, device=generator.device)
    factor = (draw >= share) / (1.0 - share)
    factor[:start] = 1.0
    return feature * factor.to(feature.dtype)
