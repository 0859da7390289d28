"""What a job asks of a cluster: memory and time, from the size of what goes into it.

:func:`of_files` and the other functions say what a job takes, as it was measured (see
:mod:`histotransfer.planning.rates`); :func:`memory_mb` and :func:`minutes` make a request of it, with room to spare,
and a greater one at each attempt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from histotransfer.definitions import ExtraTrees, RowClassifier, Selection
from histotransfer.networks.specification import NetworkSpec
from histotransfer.planning import rates

#: Memory (MB) of the two processes of Snakemake around a job on a cluster, and what each of a thousand slides of the
#: study adds to it (measured with 100 to 100,000).
SNAKEMAKE_MB, SNAKEMAKE_MB_OF_A_THOUSAND = 370.0, 4.2
#: How much more is asked for than was measured: of memory, and of time, since a cluster's processors may be slower, and
#: its disks shared.
MEMORY_FACTOR, TIME_FACTOR = 1.3, 4.0
#: Minutes that every job may take: those of Snakemake's own start on a busy disk among them.
LEAST_MINUTES = 10
#: Requests are rounded up to so many MB.
ROUNDED_MB = 100
#: How many processors a GPU is worth at the least. ASSUME 40: no GPU was measured, and one that is slower than five
#: jobs of eight threads is no use.
GPU_WORTH = 40.0
#: Bytes that a step of a U-Net holds of each pixel and filter of its first level: ten layers of float32, forward and
#: backward; and MB of features that are held for all maps (:mod:`histotransfer.segmentation.unet_training`).
UNET_BYTES, FEATURES_HELD_MB = 80.0, 256.0
#: What each further thread adds to the first.
THREAD_WORTH = 0.7


@dataclass(frozen=True)
class Need:
    """What a job takes.

    Attributes
    ----------
    mb : float
        Peak memory (MB) of its own process.
    seconds : float
        Time of one processor.
    """

    mb: float
    seconds: float


@dataclass(frozen=True)
class OfFiles:
    """What a job takes whose input is its files: of itself, for each MB of them, and for each of them."""

    mb: float = 100
    seconds: float = 5
    mb_of_mb: float = 0
    seconds_of_mb: float = 0
    seconds_of_file: float = 0

    def need(self, mb: float, files: int) -> Need:
        """Return what a job with so many MB in so many files takes."""
        seconds = self.seconds + self.seconds_of_mb * mb + self.seconds_of_file * files
        return Need(self.mb + self.mb_of_mb * mb, seconds)


# matplotlib
_FIGURE = OfFiles(mb=120, seconds=10, mb_of_mb=10, seconds_of_mb=1, seconds_of_file=0.01)
_TABLE = OfFiles(mb=100, mb_of_mb=10, seconds_of_mb=1, seconds_of_file=0.01)
_KERAS = OfFiles(mb=1100, seconds=60, seconds_of_file=0.02)

#: By the first word of a rule's name, for those that :data:`OF_FILES` does not have.
OF_VERBS: dict[str, OfFiles] = {"draw": _FIGURE, "tabulate": _TABLE, "collect": _TABLE}

#: By rule. Of a slide: one of 645 MB took 392 MB and 1.6 s for its tissue, 117 MB and 5.4 s to be cut, the demo's of
#: 1 MB each 70 MB and less than 1 s; slides of the 40 GB that whole-slide scanners make at most ask for no more than
#: their tissue, whose overview grows with the slide.
OF_FILES: dict[str, OfFiles] = {
    "draw_slide": OfFiles(mb=700, seconds=10),
    # 3,072 x 3,072 px: 244 MB, 1.9 s
    "draw_lesions": OfFiles(mb=300, seconds=10),
    "draw_regions": OfFiles(mb=200, seconds=10),
    "inspect_slide": OfFiles(mb_of_mb=0.05, seconds_of_mb=0.002),
    "tissue_mask": OfFiles(mb=150, mb_of_mb=0.5, seconds_of_mb=0.01),
    "tile_grid": OfFiles(mb=150, mb_of_mb=0.5, seconds_of_mb=0.005),
    "tile_pixels": OfFiles(mb=150, mb_of_mb=0.05, seconds_of_mb=0.05),
    "label_tiles": OfFiles(),
    # 50,000 tiles: 31 MB of ASAP's XML 181 MB and 4 s, a mask of 85 million pixels 299 MB and 1.5 s
    "label_regions": OfFiles(mb=350, seconds_of_mb=0.2, mb_of_mb=6),
    "draw_annotation": OfFiles(mb=350, seconds=10, seconds_of_mb=0.2, mb_of_mb=6),
    "slide_image": OfFiles(mb=300, mb_of_mb=0.1, seconds_of_mb=0.02),
    # 100,000 tiles of one slide: 174 MB, 3.1 s
    "write_maps": OfFiles(mb=200, mb_of_mb=10, seconds_of_mb=1, seconds_of_file=0.05),
    "stage_patients": OfFiles(mb=250, seconds=60, mb_of_mb=5, seconds_of_mb=1, seconds_of_file=0.05),
    # sheets are streamed
    "filter_table": OfFiles(mb=300, seconds_of_mb=5),
    "check_table": OfFiles(mb=300, seconds_of_mb=5),
    "part_pixels": OfFiles(mb=300, seconds=600, seconds_of_mb=60),
    "image_pixels": OfFiles(mb=300, seconds=600, seconds_of_mb=60),
    "label_part": OfFiles(mb=200, seconds_of_mb=5),
    # 1,000 slides: 46 MB, 2.2 s
    "gather_labels": OfFiles(mb=60, seconds_of_mb=0.1, seconds_of_file=0.005),
    "cohort": OfFiles(mb=100, seconds_of_file=0.01),
    "cohort_of_table": OfFiles(mb=300, mb_of_mb=3, seconds_of_mb=5, seconds_of_file=0.1),
    "split_groups": OfFiles(mb_of_mb=5, seconds_of_mb=1, seconds_of_file=0.01),
    "count_split": OfFiles(mb_of_mb=5, seconds_of_mb=1),
    # 100,000 tiles held out, 49 MB: 166 MB, 14.3 s with 1,000 resamples
    "score": OfFiles(mb=100, mb_of_mb=3, seconds_of_mb=0.5),
    "compare_methods": OfFiles(mb=100, mb_of_mb=3, seconds_of_mb=0.5),
    "choose_layer": OfFiles(mb=150, mb_of_mb=5, seconds_of_mb=0.5),
    "share_importance": OfFiles(mb=250, mb_of_mb=3, seconds_of_mb=1),
    "draw_tiles": OfFiles(mb=150, seconds_of_file=0.02),
    "draw_augmentation": _KERAS,
    "attach_head": _KERAS,
    "grad_cam": OfFiles(mb=1500, seconds=120, seconds_of_file=0.02),
    "write_report": OfFiles(mb=200, seconds=10, mb_of_mb=3, seconds_of_mb=1),
    "write_run_page": OfFiles(mb=100, mb_of_mb=3, seconds_of_mb=1),
    "collect_costs": OfFiles(mb=100, seconds=60),
    "cost_methods": OfFiles(mb=100, seconds=60, seconds_of_file=0.01),
    "copy_pages": OfFiles(mb=20),
    "rank_methods": _TABLE,
    "friedman_test": _TABLE,
}


def of_files(rule: str) -> OfFiles:
    """Return what a job of a rule takes whose input is its files.

    Raises
    ------
    ValueError
        If neither :data:`OF_FILES` has the rule nor :data:`OF_VERBS` its first word.
    """
    need = OF_FILES.get(rule) or OF_VERBS.get(rule.partition("_")[0])
    if need is None:
        verbs = ", ".join(f"{verb}_..." for verb in OF_VERBS)
        raise ValueError(f"needs of files are known for {', '.join(OF_FILES)} and {verbs}; found rule {rule!r}")
    return need


def memory_mb(need: Need, *, attempt: int = 1, slides: int = 0) -> int:
    """Return what to ask for: the job with room to spare, and Snakemake, which reads the sheet of all slides."""
    around = SNAKEMAKE_MB + SNAKEMAKE_MB_OF_A_THOUSAND * slides / 1000
    return ROUNDED_MB * math.ceil((around + MEMORY_FACTOR * need.mb) * attempt / ROUNDED_MB)


def minutes(need: Need, *, attempt: int = 1) -> int:
    """Return how many minutes to ask for."""
    return math.ceil((LEAST_MINUTES + TIME_FACTOR * need.seconds / 60) * attempt)


def worth(threads: int, gpu: int) -> float:
    """Return how many processors' work a job does at a time."""
    return GPU_WORTH if gpu else 1 + THREAD_WORTH * (threads - 1)


def _passes_s(network: NetworkSpec, px: int, tiles: float) -> float:
    """Return the processor seconds of one pass of so many tiles through a network; they go by the tiles' area."""
    row, width = network.architecture, network.alpha or 1.0
    # a narrower network is faster, though not as much as its layers are narrower: nothing is gained here below 1
    return tiles / rates.NETWORKS[row.name].tiles_s * (px / row.px) ** 2 * max(1.0, width**2)


def extraction(
    network: NetworkSpec, *, px: int, tiles: float, batch: int, threads: int = 1, gpu: int = 0, cut: bool = False
) -> Need:
    """Return what the features of so many tiles take.

    Parameters
    ----------
    network : NetworkSpec
    px : int
        Edge of the tiles.
    tiles : float
    batch : int
        Tiles a forward pass.
    threads, gpu : int
    cut : bool
        Whether the tiles are read from the slides in the same job.
    """
    row = network.architecture
    rate = rates.NETWORKS[row.name]
    grown = batch / rates.BATCH * (px / row.px) ** 2 * max(1.0, network.alpha or 1.0)
    mb = rates.KERAS_MB + (rate.mb - rates.KERAS_MB) * max(1.0, grown) + 150 * cut
    cutting = tiles * px**2 / 1e6 / rates.CUT_MPX_S if cut else 0.0
    seconds = rate.start_s + (_passes_s(network, px, tiles) + cutting) / worth(threads, gpu)
    return Need(mb, 30 + seconds)


def training(
    network: NetworkSpec,
    *,
    px: int,
    tiles: float,
    epochs: int,
    batch: int,
    threads: int = 1,
    gpu: int = 0,
) -> Need:
    """Return what so many epochs on so many tiles take, all layers trained; parameters as of :func:`extraction`."""
    row = network.architecture
    rate = rates.NETWORKS[row.name]
    area = (px / row.px) ** 2 * max(1.0, network.alpha or 1.0)
    passes = rates.TRAINING_PASSES * epochs * _passes_s(network, px, tiles)
    mb = rates.TRAINING_MB + rate.tile_mb * batch * area + TABLE_BYTES * tiles / 1e6
    return Need(mb, 60 + rate.start_s + passes / worth(threads, gpu))


def segmentation(
    *, pixels: float, maps: float, epochs: int, batch: int, filters: int, mb: float, threads: int = 1, gpu: int = 0
) -> Need:
    """Return what a U-Net takes that sees so many maps so often.

    Parameters
    ----------
    pixels : float
        Of a map: its cells, or of a slide at low resolution the pixels of all cells.
    maps, epochs, batch : float and int
    filters : int
        Of its first level.
    mb : float
        Of all that maps are made of.
    threads, gpu : int
    """
    # 20 maps of 32 x 32 cells with 16 filters and three levels: 0.9 GB, 50 epochs in 26 s on two busy processors
    passes = maps * epochs * pixels / rates.UNET_CELLS_S * (filters / 16) ** 2
    held = UNET_BYTES * filters * pixels * batch / 1e6
    return Need(rates.KERAS_MB + held + min(mb, FEATURES_HELD_MB), 60 + 0.05 * mb + passes / worth(threads, gpu))


def head(*, tiles: float, mb: float, epochs: int) -> Need:
    """Return what a head takes that is trained on so many tiles and MB of features."""
    return Need(rates.KERAS_MB + TABLE_BYTES * tiles / 1e6 + 3 * mb, 60 + 0.1 * mb * epochs)


#: By kind of classifier: memory of a MB of features that are learnt on, and processor seconds of each MB and fit.
#: Measured on 16 to 66 MB (2,000 to 8,000 rows of 2,048 features); LIBLINEAR took from 0.03 to 1.7 s, by how far apart
#: the classes are.
CLASSIFIERS: dict[str, tuple[float, float]] = {
    "libsvm": (2.2, 0.5),
    "liblinear": (4.5, 1.0),
    "extratrees": (5.0, 0.3),
    "perceptron": (4.0, 0.1),
    "leaf_frequencies": (5.0, 1.0),
}
#: Rows up to which a linear SVM keeps the matrix of their products
#: (:data:`histotransfer.classifiers.linear_svm.GRAM_ROWS`), copies of it that are held, and seconds of a fit on 5,000
#: rows (C = 1, features of tissue).
GRAM_ROWS, GRAM_COPIES, GRAM_FIT_S = 10_000, 1.6, 7.2
#: Memory (MB) of a job on next to nothing, and bytes of each tile in the tables (40,000 tiles of four features took
#: 217 MiB, 200,000 took 363).
CLASSIFIER_MB, TABLE_BYTES = 230.0, 1000


def classifier(
    kind: str, *, tiles: float, rows: float, row_bytes: float, held_out: float, fits: int, slower: float = 1.0
) -> Need:
    """Return what a classifier takes.

    Parameters
    ----------
    kind : str
        One of :data:`CLASSIFIERS`.
    tiles : float
        All tiles with features.
    rows : float
        Tiles that are learnt on.
    row_bytes : float
        Bytes of the features of a tile.
    held_out : float
        Tiles that are predicted.
    fits : int
        Points of the grid, for each fold and once more.
    slower : float
        How much longer a fit takes than with the settings that were measured.
    """
    of_mb, of_fit = CLASSIFIERS[kind]
    learnt, predicted = rows * row_bytes / 1e6, held_out * row_bytes / 1e6
    # what is predicted is read when what was learnt on is still there
    mb = CLASSIFIER_MB + TABLE_BYTES * tiles / 1e6 + of_mb * learnt + 1.2 * predicted
    seconds = 20 + fits * of_fit * slower * learnt + 0.1 * predicted
    if kind == "libsvm" and rows <= GRAM_ROWS:
        mb += GRAM_COPIES * 8 * rows**2 / 1e6
        seconds = 20 + fits * GRAM_FIT_S * (rows / 5000) ** 2 + 0.1 * predicted
    return Need(mb, seconds)


def forest_slowness(classifier: ExtraTrees, columns: int) -> float:
    """Return how much slower a forest is than one of 250 trees that look at the square root of the features.

    Of a grid of `max_features` the mean counts.
    """
    counts = {"sqrt": math.sqrt(columns), "log2": math.log2(max(columns, 2)), "all": columns}
    looked_at = [
        counts[value] if value in counts else value * columns if isinstance(value, float) else value
        for value in classifier.max_features
    ]
    return classifier.trees / 250 * max(1.0, sum(looked_at) / len(looked_at) / math.sqrt(columns))


def selection(
    settings: Selection,
    *,
    tiles: float,
    rows: float,
    row_bytes: float,
    columns: int,
    folds: int,
    threads: int = 1,
) -> Need:
    """Return what a recursive elimination takes: a forest a size and fold, of half the features on average."""
    step = settings.step
    sizes = columns / step if isinstance(step, int) else 1 / step if isinstance(step, float) else 25
    of_mb, of_fit = CLASSIFIERS["extratrees"]
    mb = rows * row_bytes / 1e6
    forests = max(1.0, sizes) * (folds + 1) / 2 * settings.trees / 250
    tables = TABLE_BYTES * tiles / 1e6
    return Need(CLASSIFIER_MB + tables + 2 * of_mb * mb, 30 + 2 * forests * of_fit * mb / worth(threads, 0))


def grid_points(classifier: RowClassifier) -> int:
    """Return the number of points of a classifier's grid: the product of the numbers of values that are tried."""
    return math.prod(len(value) for value in vars(classifier).values() if isinstance(value, tuple))
