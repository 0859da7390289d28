"""A recipe in words, as the report gives it: what a network began with, how it was trained, which epoch was kept."""

from __future__ import annotations

from pathlib import Path

from histotransfer.definitions import Adam, Constant, Cosine, Inverse, Phase, Recipe, RmsProp, Sgd
from histotransfer.networks.specification import NetworkSpec
from histotransfer.problems import counted
from histotransfer.study.trained import TrainedNetwork

_OPTIMISERS = {"sgd": "SGD", "adam": "Adam", "rmsprop": "RMSprop"}
_INITIALISATIONS = {"glorot": "Glorot's", "he": "He's", "xavier": "Caffe's Xavier"}
_MONITORS = {"loss": "loss", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
#: Factors of colour that are drawn from a range, in the order in which they are applied.
_COLOURS = ("saturation", "contrast", "brightness", "sharpness")


def describe(network: TrainedNetwork) -> list[tuple[str, str]]:
    """Return what was done to a network, each a term and a sentence."""
    start, recipe = network.start, network.recipe
    rows = [("Start", _start(start, network.start_name)), ("Head", _head(start, recipe))]
    for number, phase in enumerate(recipe.phases, start=1):
        rows.append(("Training" if len(recipe.phases) == 1 else f"Phase {number}", _phase(phase, recipe)))
    rows.append(("Tiles", _tiles(start, recipe)))
    if any(phase.on == "tiles" for phase in recipe.phases):
        rows.append(("Augmentation", _augmentation(recipe) or "none"))
    rows.append(("Epoch kept", _kept(recipe)))
    return rows


def _start(start: NetworkSpec, name: str) -> str:
    alpha = f" of width {start.alpha:g}" if start.alpha not in (None, 1, 1.0) else ""
    if start.untrained:
        origin = "random weights: trained from scratch"
    elif start.weights == "imagenet":
        origin = "ImageNet weights"
    else:
        origin = f"weights of {Path(start.weights).name}"
    return f"{start.architecture.name}{alpha}, up to {start.layer}, {origin} (network {name})"


def _head(start: NetworkSpec, recipe: Recipe) -> str:
    head = recipe.head
    dense = start.layer in start.architecture.dense
    parts = [] if dense else [{"average": "maps averaged", "flatten": "maps flattened"}[head.pool]]
    if head.dense:
        widths = ", ".join(map(str, head.dense))
        parts.append(f"{'dense layers' if len(head.dense) > 1 else 'a dense layer'} of {widths} ({head.activation})")
    parts.append("softmax")
    text = ", then ".join(parts)
    if head.dropout:
        text += f"; dropout {head.dropout:g} before {'each dense layer' if head.dense else 'the output layer'}"
    how = recipe.initialisation
    if how.kind == "gaussian":
        return f"{text}; new layers drawn from a Gaussian of deviation {how.deviation:g}"
    return f"{text}; new layers by {_INITIALISATIONS[how.kind]} initialisation"


def _phase(phase: Phase, recipe: Recipe) -> str:
    train = phase.train
    if train == "head":
        what = "the head alone"
    elif train == "all":
        what = "everything"
    elif isinstance(train, int):
        what = "the last block and the head" if train == 1 else f"the last {train} blocks and the head"
    else:
        what = f"from {train} on"
    where = "on features of the start" if phase.on == "features" else "on tiles"
    epochs = counted(phase.epochs, "epoch")
    text = f"{what}, {where}, {epochs}: {_optimiser(phase.optimiser)}, rate {phase.rate:g}"
    if phase.rates:
        factors = (
            f"{group} {factor:g} times that" if factor else f"{group} kept as it is"
            for group, factor in phase.rates.items()
        )
        text += f" ({', '.join(factors)})"
    if phase.layer_decay:
        text += f", {phase.layer_decay:g} times that with each group below the head"
    text += _schedule(phase.schedule)
    if phase.weight_decay:
        text += f"; weight decay {phase.weight_decay:g}"
    if recipe.auxiliary and phase.on == "tiles":
        text += f"; the losses of auxiliary outputs, where the network has them, count {recipe.auxiliary:g} times"
    return text


def _optimiser(optimiser: Sgd | Adam | RmsProp) -> str:
    constants = [
        f"{name.replace('_', ' ')} {value:g}"
        for name, value in vars(optimiser).items()
        if name not in ("kind", "nesterov") and not (name == "momentum" and not value)
    ]
    constants += ["Nesterov"] if getattr(optimiser, "nesterov", False) else []
    in_brackets = f" ({', '.join(constants)})" if constants else ""
    return f"{_OPTIMISERS[optimiser.kind]}{in_brackets}"


def _schedule(schedule: Constant | Inverse | Cosine) -> str:
    if isinstance(schedule, Inverse):
        return f", falling as (1 + {schedule.gamma:g} x iteration) to the power of -{schedule.power:g}"
    if isinstance(schedule, Cosine):
        epochs = "epoch" if schedule.warm_up == 1 else "epochs"
        warm = f" after a warm-up of {schedule.warm_up:g} {epochs}" if schedule.warm_up else ""
        floor = f" to {schedule.floor:g} of it" if schedule.floor else ""
        return f", falling as a cosine{floor}{warm}"
    return ""


def _tiles(start: NetworkSpec, recipe: Recipe) -> str:
    px, stored = start.px, recipe.crop_from
    text = f"{px} px"
    if stored:
        text = f"{px} px, cut from {stored} px: at random in training, the centre in testing"
    precision = "" if recipe.precision == "float32" else f", {recipe.precision.replace('_', ' ')} precision"
    return f"{text}; batches of {recipe.batch}{precision}"


def _augmentation(recipe: Recipe) -> str:
    """Return in words how tiles are varied in training, ``""`` where they are not."""
    varied = recipe.augmentation
    if varied is None:
        return ""
    parts = []
    if varied.maximal_crop:
        parts.append("largest square at a random place")
    if varied.quarter_turns:
        parts.append("quarter turns")
    if varied.flip != "none":
        parts.append({"horizontal": "left-right flips", "both": "flips in both directions"}.get(varied.flip, "flips"))
    for word, most, unit in (
        ("rotation", varied.rotate, "°"),
        ("shear", varied.shear, "°"),
        ("shift", varied.shift, " of the edge"),
    ):
        if most:
            parts.append(f"{word} to {most:g}{unit}")
    for name in ("zoom", *_COLOURS):
        ends = getattr(varied, name)
        if ends:
            parts.append(f"{name} {ends[0]:g} to {ends[1]:g}")
    return ", ".join(parts)


def _kept(recipe: Recipe) -> str:
    stop = recipe.early_stopping
    monitor = _MONITORS[recipe.monitor]
    ends = f"; a phase ends early after {counted(stop, 'epoch')} without a better {monitor}" if stop else ""
    if recipe.keep == "last":
        return f"the last{ends}"
    return f"the best by {monitor} on the validation tiles, the last where a split has none{ends}"
