"""Make the parts of a configuration: data set, range images, method, predictor."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from torch import nn

from rangeseg.datasets import open_dataset
from rangeseg.datasets.added_points import copied_classes
from rangeseg.datasets.range_images import RangeImages
from rangeseg.datasets.split_files import fingerprint
from rangeseg.datasets.splits import Labels, labelled_and_unlabelled
from rangeseg.deploy.backends import BackendName
from rangeseg.deploy.convert import make_backend
from rangeseg.engine.checkpoint import Identity
from rangeseg.engine.inference import Predictor
from rangeseg.engine.initial_weights import InitialWeights, read_initial_weights
from rangeseg.errors import ConfigError
from rangeseg.geometry.views import make_views
from rangeseg.methods import find_method
from rangeseg.methods.base import Method, Task, UnsupervisedSettings
from rangeseg.methods.losses import class_weights
from rangeseg.models import build_network
from rangeseg.models.averaged import averaged
from rangeseg.models.network import Network
from rangeseg.motion.store import PROPAGATED, PropagatedLabels, plan_propagation
from rangeseg.runs.config import AnyConfig, RunConfig
from rangeseg.system.device import Precision


class Experiment(Generic[AnyConfig]):
    """All parts of a configuration; a command makes one and passes it on.

    A data set's configuration gives ``source`` and ``images``, a run's gives all parts.

    Args:
        config: configuration of a data set or of a run.

    Attributes:
        config: the configuration.
        source: the data set; no scan is read yet.
        images: its range images.
        views: views of each scan, to average predictions.

    Raises:
        ConfigError: no such data set or class, or the sensor allows no such views.
        DataError: its root is not such a data set.
    """

    def __init__(self, config: AnyConfig) -> None:
        dataset = config.dataset
        self.config = config
        self.source = open_dataset(dataset.name, dataset.root, dataset.description)
        self.images = RangeImages(self.source.info, config.range_image)
        self.views = make_views(config.evaluate.tta, self.images.sensor)
        copied_classes(config.train.augmentation, self.source.info.label_map.names)  # check early

    def scans(
        self: Experiment[RunConfig], labels: Labels | None = None
    ) -> tuple[list[str], list[str]]:
        """Find the labelled scans of a run, and the unlabelled scans for its method.

        Args:
            labels: replaces ``run.labels``, e.g. by the list in the run's folder.

        Returns:
            Sorted ids of both; no unlabelled ones for a method without them.

        Raises:
            ConfigError: the method needs unlabelled scans, and there are none; or the labels are
                neither a ratio nor a file.
            DataError: the list does not fit the data set.
        """
        run = self.config.run
        labels = labels or run.labels
        labelled, unlabelled = labelled_and_unlabelled(self.source, labels, run.seed)
        if not find_method(run.method).uses_unlabelled:
            return labelled, []
        if self._takes_all():
            unlabelled = self.source.scan_ids("train")
        if not unlabelled:
            raise ConfigError(
                f"{run.method} learns from unlabelled scans, but --labels {labels} leaves none: "
                f"take fewer labels, --method supervised, or methods.{run.method}.pool=all"
            )
        return labelled, unlabelled

    def _takes_all(self: Experiment[RunConfig]) -> bool:
        """Whether the run's method also uses labelled scans as unlabelled ones."""
        settings = self.config.method_settings(self.config.run.method)
        return isinstance(settings, UnsupervisedSettings) and settings.pool == "all"

    def propagated(
        self: Experiment[RunConfig], labelled: list[str], run: Path
    ) -> PropagatedLabels | None:
        """The propagated labels; None without propagation.

        Args:
            labelled: ids of the labelled scans.
            run: folder of the run, the default place of the labels.

        Raises:
            DataError: there are no usable poses, or no scan is within reach.
        """
        settings = self.config.train.propagation
        if not settings.reach:
            return None
        plan = plan_propagation(self.source, labelled, settings)
        return PropagatedLabels(self.source, plan, settings.folder or run / PROPAGATED)

    def initial_weights(self: Experiment[RunConfig]) -> InitialWeights | None:
        """Read the weights of ``train.init``; None without it.

        Raises:
            CheckpointError: it cannot be read, or holds another network.
        """
        config = self.config
        if config.train.init is None:
            return None
        with torch.device("meta"):  # names and shapes
            network = self._network()
        classes, channels = self.source.info.label_map.names, config.range_image.channels
        return read_initial_weights(config.train.init, network, config.model, classes, channels)

    def _network(self) -> Network:
        images = self.images
        return build_network(
            self.config.model, len(images.settings.channels),
            self.source.info.label_map.num_classes, images.sensor.full_turn,
            images.settings.layers,
        )  # fmt: skip

    def method(
        self: Experiment[RunConfig],
        frequencies: np.ndarray | None = None,
        initial: InitialWeights | None = None,
    ) -> Method[Any]:
        """Build the method with initial weights from the run's seed.

        Args:
            frequencies: (K,) share of each class among the labelled points, for the class weights
                of the loss; None for a method that is not trained.
            initial: weights to replace random ones.
        """
        config, info = self.config, self.source.info
        num_classes = info.label_map.num_classes
        weights = torch.ones(num_classes)
        if frequencies is not None:
            weights = class_weights(torch.from_numpy(frequencies), config.train.class_weights)
        task = Task(
            num_classes=num_classes,
            channels=config.range_image.channels,
            statistics=self.images.channel_statistics,
            class_weights=weights,
            labelled=config.train.labelled,
            lovasz_weight=config.train.lovasz_weight,
            boundary_weight=config.train.boundary_weight,
            terms_on=config.train.terms_on,
            cross_entropy=config.train.cross_entropy,
            perturbation=config.train.perturbation,
            full_turn=self.images.sensor.full_turn,
        )

        built = count()

        def network() -> Network:
            network = self._network()
            if initial is not None:
                # The second network of a pair keeps its own head, as in CPS's paper: equal networks
                # would stay equal.
                initial.put_into(network, with_heads=next(built) == 0)
            return network

        name = config.run.method
        torch.manual_seed(config.run.seed)
        return find_method(name)(network, task, config.method_settings(name))

    @property
    def precision(self: Experiment[RunConfig]) -> Precision:
        """Precision of predictions.

        A network trained in bfloat16 uses it only where supported, so a GPU's run can be evaluated
        anywhere.
        """
        trained = self.config.train.precision
        return "auto" if trained == "bfloat16" else trained

    def predictor(
        self: Experiment[RunConfig],
        network: nn.Module,
        device: torch.device,
        backend: BackendName = "torch",
    ) -> Predictor:
        """Make a predictor: network, projection and back-projection of the configuration.

        Args:
            network: trained network in float32; it is copied.
            device: device of the network.
            backend: name of the backend, not ``auto``.

        Raises:
            ConfigError: see ``make_backend``.
        """
        shape = self.images.shape(len(self.views))
        runs = make_backend(backend, averaged(network, self.views), shape, device, self.precision)
        classes = self.source.info.label_map.num_classes
        return Predictor(runs, self.images, self.config.evaluate, classes)

    def identity(
        self: Experiment[RunConfig],
        labelled: list[str],
        unlabelled: list[str] | None = None,
        propagated: str | None = None,
    ) -> Identity:
        """The identity of this run's checkpoints.

        Args:
            labelled: ids of the labelled scans.
            unlabelled: ids of the unlabelled training scans; None if irrelevant.
            propagated: key of the propagated labels; None if irrelevant.
        """
        return Identity(
            method=self.config.run.method,
            classes=self.source.info.label_map.names,
            labelled=fingerprint(labelled),
            settings=self.config.of_the_weights(),
            unlabelled=None if unlabelled is None else fingerprint(unlabelled),
            propagated=propagated,
        )
