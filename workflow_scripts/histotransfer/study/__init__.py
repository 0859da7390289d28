"""The study that a config defines, checked before any job. Imports no numpy: it is read while jobs are planned."""
