"""histotransfer: what transfer learning is worth on histology slides, patient by patient.

Imports go one way: ``workflow`` -> stages -> ``store``, ``networks``, ``slides`` -> numpy. Importing
this package imports nothing else, so that a job pays only for what its stage needs.
"""

__version__ = "0.1.0"
