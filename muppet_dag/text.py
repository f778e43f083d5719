"""Text that comes from outside, made fit to be shown: in a terminal, in Markdown, in a log.

Column names, values and file names are anyone's. What steers a terminal, turns the order of
letters around or is not seen at all is written out (``\\x1b``, ``\\u202e``); all else stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from unicodedata import category

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.segment import Segment

#: Controls, formats, fillers and halves of pairs; but neither line break and tab nor the formats
#: that are seen (Arabic number signs). A pattern, since asking Unicode of every letter takes long.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
#: What joins letters in Persian and in Indian scripts, and the parts of an emoji.
_JOINERS, _BEFORE, _AFTER = "\u200c\u200d", {"Lo", "Mn", "Mc", "So", "Sk"}, {"Lo", "So"}

#: What opens markup inside a line of Markdown. Between letters ``_`` opens nothing.
_MARKUP = re.compile(r"[\\`*\[\]<>!|~&$]|(?<![^\W_])_|_(?![^\W_])")
#: What Markdown makes a link of without being asked.
_ADDRESS = re.compile(r"[^\s|`\\]*(?:://|www\.|@|mailto:|xmpp:)[^\s|`\\]*", re.IGNORECASE)

REDACTED = "[redacted]"
#: The query of an address, which is where signed addresses keep their signatures.
_QUERY = re.compile(r"\?[A-Za-z][\w.~%\-]*=[^\s\"'<>)\]]*")


def printable(text: str) -> str:
    """The text with all that is hidden or steers a terminal written out as Python would."""
    return _HIDDEN.sub(lambda match: _written(match, text), text)


def markdown(text: str) -> str:
    """The text as Markdown shows it letter by letter, in one line that fits a table's cell: no
    link, no picture, no HTML, nothing that a browser fetches."""
    parts, at, line = [], 0, printable(text).replace("\n", " ").replace("\t", " ")
    for address in _ADDRESS.finditer(line):
        parts += [_escaped(line[at : address.start()]), f"`{address[0]}`"]
        at = address.end()
    return "".join([*parts, _escaped(line[at:])])


def redacted(text: str) -> str:
    """The text without the queries of addresses: a signed one lets anyone in."""
    return _QUERY.sub(f"?{REDACTED}", text)


def console(**options: Any) -> Console:
    """A terminal that shows nothing but printable text, whatever is printed; ``options`` are those
    of Rich's console."""
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

    class Printable(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                clean = segment.control or printable(segment.text) == segment.text
                yield segment if clean else Segment(printable(segment.text), segment.style)

    return Printable(**options)


def _written(match: re.Match[str], text: str) -> str:
    at, around = match.start(), text[match.start() - 1 : match.start() + 2]
    joins = match[0] in _JOINERS and at > 0 and len(around) == 3
    if joins and category(around[0]) in _BEFORE and category(around[2]) in _AFTER:
        return match[0]
    return match[0].encode("unicode_escape").decode("ascii")


def _escaped(text: str) -> str:
    """Markup as numbers: unlike backslashes they mean the same in a table and outside of one."""
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", text)
