"""Text from outside (account labels, model names, file contents) made safe to show: on a terminal, in HTML, in CSV.

A name is never trusted to be printable. Control characters could move the cursor or start an escape sequence, and
bidirectional controls could reorder what is read, so they are shown by their number instead.
"""

from __future__ import annotations

import html
import unicodedata

__all__ = ["csv_cell", "html_text", "visible"]

# Cc control, Cf format (bidirectional controls, zero width), Cs surrogates, Co private use, Cn unassigned, Zl and Zp
# line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# A spreadsheet takes a cell that starts with one of these for a formula.
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")


def visible(text: str) -> str:
    r"""Every character that does not show itself, as its number.

    >>> print(visible("acme\x1b[31m\u202e"))
    acme\x1b[31m\u202e
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_numbered(each) if unicodedata.category(each) in _HIDDEN else each for each in text)


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


def _numbered(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    return f"\\U{code:08x}"
