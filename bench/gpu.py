"""The table of training and extraction on an accelerator, by Keras on JAX or PyTorch; no TensorFlow is needed.

Usage: KERAS_BACKEND=jax|torch python bench/gpu.py [--repetitions N] [--small]

Without an accelerator, or with --small, the networks and tiles are small, so that the same code runs on a processor.
"""

import argparse
import dataclasses
import importlib.util
import logging
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "workflow_scripts")]

import measuring  # noqa: E402
import numpy as np  # noqa: E402
from training import AUGMENTATION, CLASSES, TRAIN, arguments, recipe, write_study  # noqa: E402

from histotransfer.definitions import Recipe  # noqa: E402
from histotransfer.networks.specification import NetworkSpec, specification  # noqa: E402

WORK = HERE.parent / ".bench" / "gpu"
#: Architecture, edge and batch: on an accelerator, and on a processor.
LARGE = (("MobileNetV2", 96, 256), ("ResNet50", 224, 64), ("VGG16", 224, 64))
SMALL = (("MobileNetV2", 32, 8),)


def backend() -> str:
    """Choose the backend, before Keras is imported: as said, else the first of JAX and PyTorch that is installed."""
    said = os.environ.get("KERAS_BACKEND")
    if said is None:
        said = next((name for name in ("jax", "torch") if importlib.util.find_spec(name)), None)
    if said not in ("jax", "torch"):
        raise SystemExit(f"KERAS_BACKEND: legal are jax and torch, of which one is installed; found {said}")
    os.environ["KERAS_BACKEND"] = said
    return said


def device() -> str | None:
    """Return the accelerator's name, or None."""
    if os.environ["KERAS_BACKEND"] == "jax":
        import jax

        [first, *_] = jax.devices()
        return None if first.platform == "cpu" else str(first.device_kind)
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def main() -> int:
    """Print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5, help="of each measurement; the median counts")
    parser.add_argument("--small", action="store_true", help="small networks and few tiles")
    asked = parser.parse_args()
    name, found = backend(), device()
    import keras

    print(f"Keras {keras.__version__} on {name}, {found or 'a processor, no accelerator found'}\n")
    print("| what | images/s | range | of the bare step |\n|---|---|---|---|", flush=True)
    small = asked.small or found is None
    for architecture, px, batch in SMALL if small else LARGE:
        entry = {"architecture": architecture, "weights": "random", "px": px}
        start = specification({**entry, "alpha": 0.35} if small else entry)
        for precision in ("float32", "mixed_bfloat16"):
            for line in rows(start, batch, precision, asked.repetitions, steps=2 if small else 30):
                print(line, flush=True)
    return 0


def rows(start: NetworkSpec, batch: int, precision: str, repetitions: int, *, steps: int) -> Iterator[str]:
    """Yield the lines about one network at one precision."""
    title = f"{start.architecture.name} at {start.px} px, batch {batch}, {precision}"
    n = batch * steps
    how = recipe(epochs=repetitions + 1, batch=batch, precision=precision)
    bare = bare_steps(start, how, n, repetitions)
    yield line(f"{title}: bare training step, tiles in memory", bare, bare)
    crop_from = start.px * 8 // 7
    varied = dataclasses.replace(how, augmentation=AUGMENTATION, crop_from=crop_from)
    yield line(f"{title}: the same with augmentation", bare_steps(start, varied, n, repetitions), bare)
    yield line(f"{title}: an epoch as a whole, from files", epochs(start, how, n), bare)
    yield line(f"{title}: an epoch as a whole with augmentation", epochs(start, varied, n), bare)
    yield line(f"{title}: features from tiles in memory", forward(start, batch, precision, n, repetitions), bare)


def line(what: str, images_s: list[float], bare: list[float]) -> str:
    """Return one line of the table."""
    median = statistics.median(images_s)
    share = median / statistics.median(bare)
    return f"| {what} | {median:.0f} | {min(images_s):.0f} to {max(images_s):.0f} | {share:.2f} |"


def bare_steps(start: NetworkSpec, how: Recipe, n: int, repetitions: int) -> list[float]:
    """Return images a second of the compiled step alone, again and again over the same tiles in memory."""
    from histotransfer.backends import compiled
    from histotransfer.training import augmentation, optimisation, scoring
    from histotransfer.training.network import build

    network = build(
        start=start, start_name="bench", recipe=how, n_classes=len(CLASSES), weights_file=None, master_seed=1
    )
    [phase], batch = how.phases, how.batch
    factors = optimisation.group_factors(list(network.groups), phase)
    moving = optimisation.phase_weights(network.trained, network.groups, phase=phase, factors=factors, name="bench")
    step = compiled.compiled_train_step(
        network.trained,
        weights=moving.weights,
        slots=moving.slots,
        scale=moving.scale,
        prepare=network.prepare,
        loss=scoring.softmax_cross_entropy(how.auxiliary),
        update=moving.update,
    )
    px_stored = how.crop_from or start.px
    generator = np.random.default_rng(0)
    tiles = generator.integers(0, 256, (batch, px_stored, px_stored, 3), np.uint8)
    labels = generator.integers(0, len(CLASSES), batch).astype(np.int32)
    drawn = augmentation.draw(how.augmentation, n=batch, px_stored=px_stored, px=start.px, generator=generator)
    found = []
    for _ in range(repetitions + 1):
        started = time.perf_counter()
        for number in range(n // batch):
            step(tiles, labels, drawn, number=number + 1, size=moving.update.step_size(1e-3, number), rate=1e-3)
        # reading the counts waits for the steps
        step.tally()
        found.append(n / (time.perf_counter() - started))
    # the first time compiles
    return found[1:]


class _Ends(logging.Handler):
    """Takes the time at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "epoch %d of %d" in str(record.msg):
            self.ends.append(time.perf_counter())


def epochs(start: NetworkSpec, how: Recipe, n: int) -> list[float]:
    """Return images a second from the end of one epoch to that of the next: reading, steps, checkpoint."""
    study = write_study(WORK, n=n, px=how.crop_from or start.px, images=2)
    logger = logging.getLogger("histotransfer")
    logger.setLevel(logging.INFO)
    times = _Ends()
    logger.addHandler(times)
    measuring.call(TRAIN, **arguments(study, WORK, start, how))
    logger.removeHandler(times)
    return (n / np.diff(times.ends)).tolist()


def forward(start: NetworkSpec, batch: int, precision: str, n: int, repetitions: int) -> list[float]:
    """Return images a second of the forward pass that features are extracted by."""
    from histotransfer.backends import compiled
    from histotransfer.networks import building

    model = building.build(start, seed=1, precision=precision)
    features = compiled.compiled_forward(model, start.px, batch=batch)
    tiles = np.random.default_rng(0).integers(0, 256, (batch, start.px, start.px, 3), np.uint8)
    features(tiles)
    found = []
    for _ in range(repetitions):
        started = time.perf_counter()
        for _ in range(n // batch):
            features(tiles)
        found.append(n / (time.perf_counter() - started))
    return found


if __name__ == "__main__":
    sys.exit(main())
