"""histotransfer: what transfer learning is worth on histology slides, patient by patient.

Modules beside this file are the ground: every folder may use them, and they use no folder. Each folder is a stage or
what several stages share; imports between folders go one way (``tests/test_architecture.py`` has the table). Importing
this package imports nothing else, so that a job pays only for what its stage needs.
"""

import os

__version__ = "0.1.0"

# HDF5 looks at it when h5py is imported. It would lock each file that it opens, for reading too, which fails where a
# network's file system has no locks (and then nothing can be read), or while another job reads the same file. No lock
# is needed: a file is written under another name, by one job, and never changed once it has its own (see store).
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
