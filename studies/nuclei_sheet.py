"""Write the sample sheet of the labelled colon nuclei: one row a patch, grouped by the image it was cut from.

The column ``patientID`` of the published table has 60 values, where its paper counts 9 patients and 100 images: it is
taken for the number of the 500 x 500 px image, and called image here.

Usage: python studies/nuclei_sheet.py LABELS_CSV SHEET_TSV
"""

import csv
import sys


def write_sheet(labels_csv: str, sheet_tsv: str) -> None:
    """Write columns tile, path, image and label from InstanceID, ImageName, patientID and cellTypeName."""
    with open(labels_csv, encoding="utf-8", newline="") as source, open(sheet_tsv, "w", encoding="utf-8") as sheet:
        print("tile", "path", "image", "label", sep="\t", file=sheet)
        for row in csv.DictReader(source):
            image = f"image-{int(row['patientID']):02d}"
            print(row["InstanceID"], row["ImageName"], image, row["cellTypeName"], sep="\t", file=sheet)


if __name__ == "__main__":
    write_sheet(*sys.argv[1:])
