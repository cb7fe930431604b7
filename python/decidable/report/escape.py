"""Text from outside (account labels, model names, file contents) made safe to show: on a terminal, in HTML, in CSV.

A name is never trusted to be printable. Control characters could move the cursor or start an escape sequence, and
bidirectional controls could reorder what is read, so they are shown by their number instead.
"""

from __future__ import annotations

import html
import re
from typing import Final

from decidable import _native

__all__ = ["csv_cell", "html_text", "visible"]

# A surrogate stands for no character: a name that was no text may hold one.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# A spreadsheet takes a cell that starts with one of these for a formula.
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")


def visible(text: str) -> str:
    r"""Every character that does not show itself, as its number. Explanations print by the same rule.

    >>> print(visible("acme\x1b[31m\u202e"))
    acme\x1b[31m\u202e
    """
    if text.isascii() and text.isprintable():
        return text
    return _native.visible(_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def html_text(text: str) -> str:
    """For HTML text and quoted attributes.

    >>> html_text('<b onclick="x">')
    '&lt;b onclick=&quot;x&quot;&gt;'
    """
    return html.escape(visible(text), quote=True)


def csv_cell(text: str) -> str:
    r"""One cell of comma-separated values that no spreadsheet runs as a formula.

    >>> csv_cell("=1+1"), csv_cell('a "b", c'), csv_cell("plain")
    ("'=1+1", '"a ""b"", c"', 'plain')
    """
    shown = visible(text)
    if text.startswith(_FORMULA_START) or shown.lstrip().startswith(_FORMULA_START):
        shown = "'" + shown
    if any(each in shown for each in ',"\n\r'):
        shown = '"' + shown.replace('"', '""') + '"'
    return shown
