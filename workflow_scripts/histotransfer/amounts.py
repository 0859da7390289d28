"""Times and sizes as a person reads them."""

from __future__ import annotations


def duration(seconds: float, *, tenths: bool = True) -> str:
    """Return a time to the second, below a minute to a tenth of one (or not), from an hour on to the minute.

    Examples
    --------
    >>> [duration(seconds) for seconds in (0.41, 125, 11250)]
    ['0.4 s', '2 min 05 s', '3 h 08 min']
    >>> [duration(seconds, tenths=False) for seconds in (3.4, 75, 7265)]
    ['3 s', '1 min 15 s', '2 h 01 min']
    """
    if tenths and seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def rough_duration(seconds: float) -> str:
    """Return a time in its largest unit alone, for charts.

    Examples
    --------
    >>> rough_duration(2.52), rough_duration(125), rough_duration(11250)
    ('2.5 s', '2 min', '3.1 h')
    """
    if seconds < 99.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:,.1f} h"


def mebibytes(amount: float) -> str:
    """Return a size given in MiB, from 1,024 MiB on in GiB.

    Examples
    --------
    >>> mebibytes(300.4), mebibytes(1536)
    ('300 MiB', '1.5 GiB')
    """
    return f"{amount / 1024:,.1f} GiB" if amount >= 1024 else f"{amount:,.0f} MiB"
