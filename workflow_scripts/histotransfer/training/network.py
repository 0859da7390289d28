"""Networks that are trained: from a start and a recipe to the network with the weights that training begins with.

The network is built of three parts: image layers (the centre of a stored tile, then the start's own preprocessing),
the trunk (the start up to its layer), and the head. In training the image layers make way for the augmentation, which
is part of the compiled step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from histotransfer import seeds
from histotransfer.backends.shared import listed
from histotransfer.definitions import Recipe
from histotransfer.networks import building, random_weights, trained, weights
from histotransfer.networks.groups import HEAD
from histotransfer.networks.specification import NetworkSpec
from histotransfer.training import augmentation
from histotransfer.training.head import HeadLayers, build_head, load_head

#: Share that the moving statistics of batch normalisation keep at each step, where a recipe does not say.
# ASSUME 0.9, as PyTorch has it, for every network. Those of keras.applications have 0.99, MobileNetV2 even 0.999, meant
# for hundreds of thousands of steps: after 300 steps three quarters of a statistic were still that of the start, and a
# network that has learnt would be tested with the statistics of one that has not
STATISTICS_MOMENTUM = 0.9


@dataclass(frozen=True)
class Network:
    """A network to be trained.

    Attributes
    ----------
    start : NetworkSpec
        What training begins with.
    trained : keras.Model
        From preprocessed tiles, float32 (n, px, px, 3), to the logits and those of auxiliary outputs.
    evaluated : keras.Model
        From stored tiles, uint8 (n, px_stored, px_stored, 3), to the logits.
    model : keras.Model
        From stored tiles to probabilities: what is saved.
    groups : dict of str to list of keras.Layer
        By depth, the head last.
    n_features : int
        Values that the head takes.
    prepare : callable
        See :class:`histotransfer.training.learner.Learner`.
    """

    start: NetworkSpec
    trained: Any
    evaluated: Any
    model: Any
    groups: dict[str, list[Any]]
    n_features: int
    prepare: Callable[[Any, Mapping[str, Any]], Any]


def build(
    *,
    start: NetworkSpec,
    start_name: str,
    recipe: Recipe,
    n_classes: int,
    weights_file: str | Sequence[str] | None,
    master_seed: int,
    stream: Sequence[object] = (),
    head: str | None = None,
    means: Sequence[float] | None = None,
) -> Network:
    """Build a network with the weights that training begins with.

    Parameters
    ----------
    start : NetworkSpec
    start_name : str
        Its name among ``networks``.
    recipe : Recipe
    n_classes : int
    weights_file : path, list of path or None
        The start's, where the config gives a path.
    master_seed : int
    stream : sequence
        What the seeds of this training are derived from, besides the master seed: see
        :attr:`histotransfer.training.job.Job.stream`.
    head : path, optional
        A head that was trained on features of the start.
    means : sequence of 3 floats, optional
        Of the training tiles, where the start's ``rescale`` is ``training_mean``.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If the start, its weights or the head do not fit.
    OSError
        If a file cannot be read.
    """
    import keras

    seed_of = partial(seeds.integer, master_seed, "training", *stream)
    on_features = recipe.phases[0].on == "features"
    # a head that was trained on features of a random start needs that very start
    trunk = building.trunk(
        start,
        weights_file=weights.file_of(start, weights_file)[0],
        seed=seeds.integer(master_seed, "weights", start_name) if on_features else seed_of("trunk"),
        precision=recipe.precision,
        initialisation=None if on_features else recipe.initialisation,
        auxiliary=bool(recipe.auxiliary and building.auxiliary_layers(start)),
    )
    layers = build_head(
        recipe.head,
        n_classes,
        dimensions=len(trunk.outputs[0].shape),
        n_auxiliary=len(trunk.outputs) - 1,
        dropout_seed=seed_of("dropout"),
    )
    preprocessed = keras.Input((start.px, start.px, 3), name="preprocessed")
    first, *others = listed(trunk(preprocessed))
    outputs = [layers(first), *(layer(other) for layer, other in zip(layers.auxiliary, others, strict=True))]
    evaluated, model = _from_stored_tiles(
        trunk, layers, building.image_layers(start, px_stored=recipe.crop_from or start.px, means=means)
    )
    random_weights.draw_weights(
        [*layers.layers, *layers.auxiliary], seed=seed_of("head"), initialisation=recipe.initialisation
    )
    if head:
        load_head(layers, head)
    _set_statistics_momentum(trunk, recipe)
    groups = trained.groups(trunk, start)
    groups[HEAD] = [*groups.pop(HEAD, []), *layers.all]

    def prepare(stored: Any, drawn: Mapping[str, Any]) -> Any:
        return building.preprocess(augmentation.apply(stored, drawn, px=start.px), start.preprocessing, means=means)

    return Network(
        start=start,
        trained=keras.Model(preprocessed, outputs if len(outputs) > 1 else outputs[0]),
        evaluated=evaluated,
        model=model,
        groups=groups,
        n_features=int(next(layer for layer in layers.layers if layer.weights).input.shape[-1]),
        prepare=prepare,
    )


def _from_stored_tiles(trunk: Any, head: HeadLayers, image: Any) -> tuple[Any, Any]:
    """Return the models from stored tiles to logits, and to probabilities: without auxiliary outputs."""
    import keras

    main = keras.Model(trunk.input, trunk.outputs[0], name="trunk") if len(trunk.outputs) > 1 else trunk
    tiles = keras.Input(image.input.shape[1:], dtype="uint8", name="tiles")
    logits = head(main(image(tiles)))
    return keras.Model(tiles, logits), keras.Model(tiles, head.probability(logits), name="network")


def _set_statistics_momentum(trunk: Any, recipe: Recipe) -> None:
    import keras

    for layer in trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            momentum = recipe.statistics_momentum
            layer.momentum = STATISTICS_MOMENTUM if momentum is None else momentum
