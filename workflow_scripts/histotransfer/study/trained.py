"""A trained network: its start, its recipe, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from histotransfer.definitions import Recipe
from histotransfer.feature_kinds import Layers, Source
from histotransfer.networks.specification import NetworkSpec


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network with every default filled in.

    Attributes
    ----------
    name : str
    start_name : str
        Name of the network that training begins with.
    start : NetworkSpec
        That network.
    recipe : Recipe
    layer : str or None
        The cut point, or dense layer of the head, whose outputs are its features; None: the start's layer.
    layers : tuple of str
        Inner layers that are stored as well, by depth.
    """

    name: str
    start_name: str
    start: NetworkSpec
    recipe: Recipe
    layer: str | None = None
    layers: tuple[str, ...] = ()

    @property
    def px(self) -> int:
        """Edge (pixels) of the stored tiles that it takes."""
        return self.recipe.crop_from or self.start.px

    @property
    def on_features(self) -> bool:
        """Whether its head is first trained on cached features of the start."""
        return self.recipe.phases[0].on == "features"

    @property
    def head_only(self) -> bool:
        """Whether only the head is trained, on cached features."""
        return all(phase.on == "features" for phase in self.recipe.phases)

    @property
    def start_features(self) -> Layers:
        """The feature set that such a head learns from."""
        return Layers((Source(self.start_name),))

    @property
    def transfer(self) -> bool:
        """Whether training begins with weights that were trained before."""
        return not self.start.untrained

    @property
    def own_size(self) -> bool:
        """Whether patches are stored at their own shape, since training crops their largest square at random."""
        return self.recipe.augmentation is not None and self.recipe.augmentation.maximal_crop
