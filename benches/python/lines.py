"""What Python benches print, a line in the form of benches/src/rounds.rs: benches/check.py reads both."""

from collections.abc import Mapping, Sequence
from statistics import median


def wanted(label: str, names: Sequence[str]) -> bool:
    """Whether a label was asked for: nothing was named, or a part of this one."""
    return not names or any(name in label for name in names)


def line(label: str, figures: Sequence[tuple[str, float, str]]) -> str:
    """A label, and figures with a name and a unit."""
    shown = (f" {name:>13} {number:>10.{3 if number < 10 else 1}f} {unit}  " for name, number, unit in figures)
    return f"{label:<36} {''.join(shown)}".rstrip()


def compared(label: str, samples: Mapping[str, Sequence[float]]) -> str:
    """The median round of each side in nanoseconds, and how many times as long as the last each of the others takes: by
    the median of the rounds' ratios, and by the best rounds."""
    *others, last = samples
    text = line(label, [(name, median(each), "ns") for name, each in samples.items()])
    for other in others:
        ratio = median(theirs / ours for theirs, ours in zip(samples[other], samples[last], strict=True))
        best = min(samples[other]) / min(samples[last])
        text += f"   {other}/{last} {ratio:>5.2f} (best {best:>5.2f})"
    return text
