"""Numbers as people read them: money, counts, shares, durations, times. Exact where the number is money.

The microunit is 1/1,000,000 of the caller's currency unit; which currency that is, no log says.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isqrt

from decidable.builders import counted

__all__ = [
    "MICROUNITS",
    "clock",
    "count",
    "duration",
    "money",
    "nearest_rank",
    "nice_step",
    "percent",
    "share",
    "size",
    "stamp",
]

MICROUNITS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def money(microunits: int, *, places: int = 6) -> str:
    """Units of currency, rounded half up when fewer than six places are asked for.

    >>> money(1_234_567_890), money(-5, places=6), money(1_995_000, places=2)
    ('1,234.567890', '-0.000005', '2.00')
    """
    sign = "-" if microunits < 0 else ""
    scale = 10 ** (6 - places)
    whole, rest = divmod((abs(microunits) + scale // 2) // scale, 10**places)
    return f"{sign}{whole:,}" + (f".{rest:0{places}d}" if places else "")


def count(number: int) -> str:
    """
    >>> count(19366)
    '19,366'
    """
    return f"{number:,}"


def share(part: int, whole: int) -> str:
    """Per cent with one decimal, rounded half up; nothing of nothing is a dash.

    >>> share(1, 3), share(0, 0)
    ('33.3 %', '-')
    """
    if whole == 0:
        return "-"
    tenths = (part * 2000 + whole) // (whole * 2)
    return f"{tenths // 10}.{tenths % 10} %"


def percent(bps: int) -> str:
    """A proportion as a person writes it, exact.

    >>> percent(8_400), percent(8_425), percent(5), percent(10_000)
    ('84%', '84.25%', '0.05%', '100%')
    """
    whole, rest = divmod(bps, 100)
    return f"{whole}.{rest:02}".rstrip("0") + "%" if rest else f"{whole}%"


def duration(nanoseconds: int) -> str:
    """Three figures and a unit.

    >>> duration(950), duration(1_234_000), duration(59_999_000_000), duration(90 * 60 * 10**9)
    ('950 ns', '1.23 ms', '60.0 s', '90.0 min')
    """
    if nanoseconds >= 10 * 60 * 10**9:
        return f"{nanoseconds / (60 * 10**9):.1f} min"
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if nanoseconds >= scale:
            value = nanoseconds / scale
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{nanoseconds} ns" if nanoseconds else "0"


def size(octets: int) -> str:
    """
    >>> size(1), size(999), size(12_345_678)
    ('1 byte', '999 bytes', '12.3 MB')
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if octets >= scale:
            return f"{octets / scale:.1f} {unit}"
    return counted(octets, "byte")


def stamp(time_ns: int) -> str:
    """
    >>> stamp(1_700_158_546_680_590_000)
    '2023-11-16 18:15:46 UTC'
    """
    return f"{_moment(time_ns):%Y-%m-%d %H:%M:%S} UTC"


def clock(time_ns: int, *, step_ns: int) -> str:
    """A label on an axis whose ticks are ``step_ns`` apart.

    >>> clock(1_700_158_560_000_000_000, step_ns=60 * 10**9)
    '18:16'
    """
    if step_ns >= 24 * 3600 * 10**9:
        return f"{_moment(time_ns):%Y-%m-%d}"
    return f"{_moment(time_ns):%H:%M}" if step_ns >= 60 * 10**9 else f"{_moment(time_ns):%H:%M:%S}"


def nearest_rank(ascending: list[int], per_cent: int) -> int | None:
    """The smallest value that at least ``per_cent`` of the values do not exceed.

    >>> nearest_rank([10, 20, 30, 40], 50), nearest_rank([7], 99), nearest_rank([], 50)
    (20, 7, None)
    """
    if not ascending:
        return None
    return ascending[max(0, -(-len(ascending) * per_cent // 100) - 1)]


def nice_step(span: int, ticks: int) -> int:
    """The smallest of 1, 2, 2.5 (from 25 on) or 5 times a power of ten that covers ``span`` in at most ``ticks`` steps.

    >>> nice_step(97, 5), nice_step(3, 5), nice_step(0, 5)
    (20, 1, 1)
    """
    wanted = max(1, -(-span // ticks))
    power = int(10 ** max(0, len(str(wanted)) - 2))
    while True:
        for factor in (10, 20, 25, 50, 100) if power > 1 else (1, 2, 5, 10, 20, 25, 50, 100):
            if factor * power >= wanted:
                return factor * power
        power *= 10


def bins_for(values: int) -> int:
    """How many bars a histogram of so many values deserves: their square root, between 8 and 60."""
    return min(60, max(8, isqrt(values)))


def _moment(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)
