"""The records of a CSV file (RFC 4180), each with the line at which it begins; errors become problems."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

from histotransfer.problems import Problems

#: Separators of cells, by their names in the config.
SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";"}


class Records:
    """The records of a table. Use it as a context manager, which closes the file.

    Parameters
    ----------
    path : str
    separator : {'tab', 'comma', 'semicolon'}
    problems : Problems
        What cannot be read is added here.
    """

    def __init__(self, path: str, separator: str, problems: Problems) -> None:
        self.separator, self.problems = separator, problems
        self._line = 0
        self._records: Any = None
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def header(self) -> list[str] | None:
        """Return the cells of the header line, or None after a problem."""
        legal = f"must be a table with cells separated by {self.separator}s, in UTF-8"
        try:
            self._file = open(self._path, "rb")  # noqa: SIM115 - `rows` reads on
            self._records = csv.reader(self._lines(self._file), delimiter=SEPARATORS[self.separator], strict=True)
            first = next(self.rows(), None)
        except FileNotFoundError:
            self.problems.add("sheet", legal, "no such file")
            return None
        except OSError as error:
            self.problems.add("sheet", legal, f"a file that cannot be read ({error.strerror})")
            return None
        if first is None:
            if not self.problems:
                self.problems.add("row 1", legal, "an empty file")
            return None
        return [cell.strip() for cell in first[1]]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each record that is not blank, with the number of its first line (the header's is 1)."""
        while True:
            begins = self._line + 1
            try:
                cells = next(self._records, None)
            except csv.Error as error:
                self.problems.add(f"row {begins}", *_in_words(error))
                return
            except UnicodeDecodeError as error:
                byte = f"the byte {error.object[error.start]:#04x} in line {self._line}"
                self.problems.add(f"row {begins}", "the table must be UTF-8", byte)
                return
            if cells is None:
                return
            if any(cells):
                yield begins, cells

    def _lines(self, file: IO[bytes]) -> Iterator[str]:
        with file:
            for line in file:
                self._line += 1
                yield line.decode("utf-8-sig" if self._line == 1 else "utf-8")


def _in_words(error: csv.Error) -> tuple[str, str]:
    """Return what is legal where Python's csv module cannot read on, and what was found.

    The module has one class of error for all cases, so that only its text says which it is.
    """
    text = str(error)
    if "field larger" in text:
        legal = "a cell has at most 131,072 characters, and a double quote that opens a cell must be closed at its end"
        return legal, "a longer cell, most likely after a quote that is not closed"
    if "unexpected end" in text:
        return "a double quote that opens a cell must be closed at its end", "the end of the file inside a cell"
    if "expected after" in text:
        return 'in a cell in double quotes, a double quote must be written twice, ""', "a single one inside the cell"
    if "new-line" in text:
        return "lines must end in LF or CRLF, and a line break inside a cell needs double quotes", "a CR alone"
    return "must be a row of cells", text
