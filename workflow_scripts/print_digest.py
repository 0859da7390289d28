import argparse

from histotransfer import provenance

parser = argparse.ArgumentParser(description="Print one digest of what a results folder says; times are outside it.")
parser.add_argument("folder")
parser.add_argument("--files", action="store_true", help="the digest of each file too")
asked = parser.parse_args()
total, files = provenance.folder_digest(asked.folder)
if asked.files:
    for name, digest in sorted(files.items()):
        print(f"{digest}  {name}")
print(f"{total}  {asked.folder} ({len(files)} files)")
