"""What the drawn slides of one patient share: stain and texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from histotransfer import seeds

#: Directions of hematoxylin and eosin in optical density (red, green, blue): Ruifrok & Johnston (2001).
HEMATOXYLIN_OD = (0.65, 0.70, 0.29)
EOSIN_OD = (0.07, 0.99, 0.11)
#: Optical density of one unit of a stain map (uint8).
OD_PER_UNIT = 0.01


@dataclass(frozen=True)
class Stain:
    """How one patient's sections are stained and scanned.

    Attributes
    ----------
    vectors : ndarray of shape (2, 3)
        Unit vectors of hematoxylin and eosin in optical density (red, green, blue).
    strengths : tuple of 2 floats
        Factors on the amounts of hematoxylin and eosin; both follow the section's thickness.
    white : ndarray of shape (3,)
        Grey level of the empty slide, 0 to 255.
    """

    vectors: np.ndarray
    strengths: tuple[float, float]
    white: np.ndarray


@dataclass(frozen=True)
class Texture:
    """How one patient's tissue is built; lengths in level-0 pixels.

    Attributes
    ----------
    nucleus : float
        Factor on the size of every nucleus.
    crowding : float
        Factor on the number of nuclei.
    chromatin : float
        Depth of the mottling inside nuclei, 0 to 1.
    fibre_width, fibre_wave, fibre_contrast : float
        Factor on the width of fibres, how far they swing to the side (px), contrast of fibre and gap (0 to 1).
    gland_radius, lumen : float
        Outer radius of a gland (px), and the lumen's share of it.
    stray_lymphocytes : float
        Lymphocytes per 100 x 100 px outside lymphoid tissue.
    neighbour_share : float
        Share of the tissue that is of another class than the slide.
    blur : float
        Standard deviation of the scanner's focus (px).
    """

    nucleus: float
    crowding: float
    chromatin: float
    fibre_width: float
    fibre_wave: float
    fibre_contrast: float
    gland_radius: float
    lumen: float
    stray_lymphocytes: float
    neighbour_share: float
    blur: float


def patient_stain(*, patient: str, master_seed: int) -> Stain:
    """Return the stain of a patient, which depends on the patient's id and the master seed alone."""
    rng = seeds.generator(master_seed, "demo stain", patient)
    # ASSUME Between laboratories stain vectors turn by a few degrees and amounts differ by a third.
    vectors = np.array([HEMATOXYLIN_OD, EOSIN_OD]) + rng.normal(0, 0.05, (2, 3))
    vectors = np.clip(vectors, 0.02, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    thickness = rng.uniform(0.85, 1.15)
    strengths = (thickness * rng.uniform(0.75, 1.2), thickness * rng.uniform(0.7, 1.25))
    white = rng.uniform(238, 248) + rng.uniform(-4, 4, 3)
    return Stain(vectors=vectors, strengths=strengths, white=white)


def patient_texture(*, patient: str, master_seed: int) -> Texture:
    """Return the texture of a patient's tissue, which depends on the patient's id and the master seed alone."""
    rng = seeds.generator(master_seed, "demo texture", patient)
    return Texture(
        nucleus=rng.uniform(0.88, 1.15),
        crowding=rng.uniform(0.75, 1.2),
        chromatin=rng.uniform(0.2, 0.5),
        fibre_width=rng.uniform(0.7, 1.5),
        fibre_wave=rng.uniform(20, 70),
        fibre_contrast=rng.uniform(0.45, 0.9),
        gland_radius=rng.uniform(55, 90),
        lumen=rng.uniform(0.3, 0.55),
        stray_lymphocytes=rng.uniform(0.3, 2.0),
        neighbour_share=rng.uniform(0.12, 0.32),
        blur=rng.uniform(0.6, 1.3),
    )


def beer_lambert(hematoxylin: np.ndarray, eosin: np.ndarray, stain: Stain) -> np.ndarray:
    """Return colours of two stain maps (uint8): I = I0 exp(-A c), Ruifrok & Johnston (2001), equation 1.

    Both maps have 256 values, so each channel is one table of 256 x 256 that is looked up.
    """
    amounts = np.arange(256) * OD_PER_UNIT
    index = hematoxylin.astype(np.uint16) << 8 | eosin
    rgb = np.empty((*hematoxylin.shape, 3), np.uint8)
    for channel in range(3):
        density = np.add.outer(
            amounts * stain.strengths[0] * stain.vectors[0, channel],
            amounts * stain.strengths[1] * stain.vectors[1, channel],
        )
        table = np.rint(stain.white[channel] * np.exp(-density)).astype(np.uint8)
        rgb[..., channel] = np.take(table.ravel(), index)
    return rgb
