"""Questions with a gap, ``The sky is ____ .``, and what a candidate makes of them."""

from __future__ import annotations

import re

#: Scripts that put no blanks between words: Thai to Burmese, Khmer, kana, ideographs.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
UNSPACED += "\U00020000-\U0003ffff"
#: Letters, digits and ``_`` of the others.
_WORD = rf"[^\W{UNSPACED}]"
#: What may stand before and behind a gap of one or two signs, edges of the text besides.
_BEFORE = rf"\s\"'“‘«„(),\[.:—–{UNSPACED}，。：、「『（"
_BEHIND = rf"\s\"'”’»“)\],.:;!?—–{UNSPACED}，。：、；！？」』）-"

# - One or two ``_`` that are a word of their own: ``_ ?``, ``"_".``, ``_-shaped``.
# - Three and more, which nothing else is written with, may touch a word: ``to______.``. Inside of a
#   word even they are none.
# - RACE has 240 statements that end in ``word_.``. Elsewhere one ``_`` at a word is part of a name
#   (``get_name``, ``_private``, ``CO_{2}``).
_GAP = re.compile(
    rf"(?<![^{_BEFORE}])__?(?![^{_BEHIND}])"
    rf"|(?<!{_WORD})___+(?!_)|(?<!_)___+(?!{_WORD})"
    r"|(?<=[^\W\d_])_(?=\.[\"'”’]?\s*\Z)"
)
_ENDS_A_WORD, _STARTS_A_WORD = re.compile(rf"(?:{_WORD}|[,.:;!?])\Z"), re.compile(_WORD)


def fill(question: str, candidate: str) -> str | None:
    """The question with the candidate in each of its gaps, as fairseq does for RACE; None without.

    (``examples/roberta/preprocess_RACE.py`` puts it in the place of every ``_``.) All other text
    stays as it is, but for a blank where the candidate would run into a word.
    """
    parts = _GAP.split(question)
    if len(parts) == 1:
        return None
    out = parts[0]
    for part in parts[1:]:
        before = " " if _ENDS_A_WORD.search(out) else ""
        behind = " " if _STARTS_A_WORD.match(part) else ""
        out += before + candidate + behind + part
    return out
