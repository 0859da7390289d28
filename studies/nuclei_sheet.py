"""Write the sample sheet of the labelled colon nuclei, with one row per patch, grouped by image.

The column ``patientID`` of the published table has 60 values, but the paper counts 9 patients and 100 images. ASSUME
the column is the number of the 500 x 500 px image that the patch was cut from. It becomes the column ``image``.

Usage: python studies/nuclei_sheet.py LABELS_CSV SHEET_TSV
"""

import csv
import sys


def write_sheet(labels_csv: str, sheet_tsv: str) -> None:
    """Write the columns tile, path, image and label from InstanceID, ImageName, patientID and cellTypeName."""
    with open(labels_csv, encoding="utf-8", newline="") as source, open(sheet_tsv, "w", encoding="utf-8") as sheet:
        print("tile", "path", "image", "label", sep="\t", file=sheet)
        for row in csv.DictReader(source):
            image = f"image-{int(row['patientID']):02d}"
            print(row["InstanceID"], row["ImageName"], image, row["cellTypeName"], sep="\t", file=sheet)


if __name__ == "__main__":
    write_sheet(*sys.argv[1:])
