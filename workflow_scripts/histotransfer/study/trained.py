"""A trained network: its start, its recipe, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network with every default filled in.

    Attributes
    ----------
    name : str
    start_name : str
        Name of the network that training begins with.
    start : dict
        It, as :func:`networks.specification` takes it.
    recipe : dict
        What :func:`resolved` gives.
    layer : str or None
        The cut point, or dense layer of the head, whose outputs are its features; None: the start's own.
    layers : tuple of str
        Inner ones that are stored besides.
    """

    name: str
    start_name: str
    start: dict[str, Any]
    recipe: dict[str, Any]
    layer: str | None = None
    layers: tuple[str, ...] = ()

    @property
    def px(self) -> int:
        """Edge (pixels) of the stored tiles that it takes."""
        return self.recipe["crop_from"] or self.start["px"]

    @property
    def on_features(self) -> bool:
        """Whether its head is first trained on cached features of the start."""
        return self.recipe["phases"][0]["on"] == "features"

    @property
    def head_only(self) -> bool:
        """Whether nothing but the head is trained, on cached features alone."""
        return all(phase["on"] == "features" for phase in self.recipe["phases"])

    @property
    def start_features(self) -> dict[str, Any]:
        """The feature set that such a head learns from, as :func:`tile_table.read` takes it."""
        return {"sources": [{"network": self.start_name, "layer": None}]}

    @property
    def transfer(self) -> bool:
        """Whether training begins with weights that were trained before."""
        return self.start["weights"] != "random"

    @property
    def own_size(self) -> bool:
        """Whether patches are stored at their own shape, to be cropped to their largest square at random."""
        return bool((self.recipe["augmentation"] or {}).get("maximal_crop"))
