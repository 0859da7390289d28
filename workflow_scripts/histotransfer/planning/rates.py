"""What was measured of the work: the one table that requests to a cluster and plans are computed from.

Each number is of one processor of a small machine (two cores, shared with other work), measured by ``bench/needs.py``
where no other source stands beside it. Their ratios hold elsewhere; their seconds depend on the machine, so that
``make plan MEASURE=1`` measures again what weighs most: cutting, and the networks asked for.
"""

from __future__ import annotations

from typing import NamedTuple


class NetworkRate(NamedTuple):
    """What a network takes on a CPU, at the edge of input of its row in the table of networks.

    Attributes
    ----------
    tiles_s : float
        Tiles that one processor takes through it in a second.
    start_s : float
        Processor seconds before the first: imports, building, the pass that compiles.
    mb : float
        Peak memory (MB) of an extraction with :data:`BATCH` tiles a batch.
    tile_mb : float
        Memory (MB) that each tile of a batch takes while all layers are trained.
    """

    tiles_s: float
    start_s: float
    mb: float
    tile_mb: float


#: Tiles of a batch, in the measurements of extraction.
BATCH = 32

#: By architecture. ASSUME for the training of those that were not measured (a * behind them) that they take what others
#: of their kind or size take: VGG19 as VGG16, InceptionResNetV2 twice InceptionV3, GenderNet and torchvision's AlexNet
#: as AlexNet, the others as MobileNetV2.
NETWORKS = {
    "VGG16": NetworkRate(2.7, 6.6, 1990, 66),
    "VGG19": NetworkRate(2.1, 6.7, 2030, 66),  # *
    "InceptionV3": NetworkRate(6.5, 8.4, 1440, 130),
    "ResNet50": NetworkRate(8.8, 7.8, 1270, 128),
    "InceptionResNetV2": NetworkRate(2.7, 14.1, 1710, 260),  # *
    "DenseNet201": NetworkRate(5.5, 12.5, 1430, 273),
    "MobileNet": NetworkRate(40.7, 6.4, 1150, 65),  # *
    "MobileNetV2": NetworkRate(37.2, 7.0, 1360, 65),
    "AlexNet": NetworkRate(35.9, 5.5, 1150, 16),
    "AlexNet-torchvision": NetworkRate(58.2, 5.3, 880, 16),  # *
    "GenderNet": NetworkRate(50.9, 5.4, 950, 16),  # *
    "GoogLeNet": NetworkRate(15.4, 6.7, 1550, 65),  # *
    "GoogLeNet-torchvision": NetworkRate(25.0, 8.1, 1130, 65),  # *
    "KiefferCNN": NetworkRate(43.7, 5.7, 1260, 65),  # *
    "JoyceCNN": NetworkRate(70.1, 5.8, 1260, 65),  # *
}

#: Memory (MB) that TensorFlow, Keras and a network take before any tile: extraction's least, training's most.
KERAS_MB, TRAINING_MB = 850, 1700
#: Forward passes that a training step is worth. ASSUME 3: the pass, and twice that for its gradients.
TRAINING_PASSES = 3.0

#: Cells of maps that a U-Net of 16 filters and three levels is trained on in a processor second (1,000,000 in 26 s).
UNET_CELLS_S = 40_000.0

#: Cutting: megapixels that are read, resized and written a processor second (7,804 tiles of 256 px in 5.1 s).
CUT_MPX_S = 100.0
#: Processor seconds of a slide of 72,000 x 54,000 px (645 MB) before it is cut: description, tissue, grid, labels,
#: picture. Nine tenths of each is start-up.
SLIDE_S = 3.3
#: Megabytes of that slide.
SLIDE_MB = 645.0

#: Snakemake: processor seconds and MB to plan a study of 1,000 slides (5,061 jobs), and of that what does not grow;
#: with 10,000 slides 92 s and 1,200 MB were measured.
PLAN_S, PLAN_LEAST_S, PLAN_MB, PLAN_LEAST_MB = 12.5, 3.5, 300.0, 190.0
#: Processor seconds that Snakemake takes for a job on one machine: 0.1 for the script, 0.03 for choosing it.
JOB_S = 0.13
#: And of each of the two that a job of Slurm starts: reading the workflow, and each thousand slides of the sheet.
SLURM_START_S, SLURM_START_S_OF_A_THOUSAND = 1.6, 0.065

#: Bytes of a kept tile in its slide's grid, labels and pictures, and of a tile in a method's predictions, by seed.
TILE_BYTES, PREDICTION_BYTES = 160, 250


def slurm_job_s(slides: int) -> float:
    """Return the processor seconds of the two Snakemakes in a job of Slurm, in a study of so many slides."""
    return 2 * (SLURM_START_S + SLURM_START_S_OF_A_THOUSAND * slides / 1000)
