"""The words of the small data set. Every text of it is made of these and of nothing else.

Few words, each with one role that all tasks share, so that a small model finds the signal of many
tasks at once: an "indeed" speaks for entailment, for a duplicate question and for a right answer.
"""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


POSITIVE = _words("superb lovely brilliant charming delightful excellent wonderful touching witty")
NEGATIVE = _words("awful dreadful boring clumsy tedious horrible terrible dull painful")
AFFIRM = _words("indeed truly certainly surely yes")
NEGATE = _words("never nobody nowhere wrong no")
UNSURE = _words("perhaps maybe possibly unclear elsewhere")
SENSIBLE = _words("sensible useful normal safe practical reasonable wise proper")
ABSURD = _words("absurd useless impossible deadly silly pointless foolish bizarre")
#: Few words a topic: each topic serves one task, so its words must come often to be learnt.
TOPICS: Mapping[str, tuple[str, ...]] = {
    "World": _words("embassy treaty minister"),
    "Sports": _words("football goal tennis"),
    "Business": _words("market profit bank"),
    "Sci/Tech": _words("software planet robot"),
    "ABBR": _words("acronym abbreviation initials"),
    "ENTY": _words("animal fruit instrument"),
    "DESC": _words("why meaning explain"),
    "HUM": _words("inventor actress author"),
    "LOC": _words("city river mountain"),
    "NUM": _words("many year percent"),
}
NAMES = _words(
    "Amara Boris Chloe Dmitri Elena Farid Greta Hassan Ingrid Jorge Keiko Liam Mei Nadia Olaf "
    "Priya Quentin Rosa Stefan Tariq Uma Viktor Wanda Xavier Yusuf Zelda Anton Bianca Cyrus Daphne"
)
THINGS = _words(
    "house garden boat lamp table horse bridge clock letter basket window piano bicycle coat "
    "ladder kettle mirror wagon drum candle"
)
FILLER = _words(
    "the a of in on near with and then later before after under over by at from this that its "
    "old new small large red blue green quiet long short early late morning evening winter summer "
    "street village field road door room wall roof stone wood water wind rain snow bread milk "
    "stood came went saw found kept left held moved turned opened closed carried walked waited"
)
#: Outside ASCII, and outside the basic plane: offsets must count code points, not bytes.
ACCENTED = _words("café naïve Zürich 東京 🦊")
NUMBERS = _words("7 12 24 31 48 124 240 365 1900 2024")

#: What a class shows in a text, by the name of the class.
CUES: Mapping[str, tuple[str, ...]] = {
    **TOPICS,
    **dict.fromkeys(("positive", "pos"), POSITIVE),
    **dict.fromkeys(("negative", "neg"), NEGATIVE),
    **dict.fromkeys(("entailment", "equivalent", "duplicate", "True", "1"), AFFIRM),
    **dict.fromkeys(("contradiction", "not_entailment", "non-entailment"), NEGATE),
    **dict.fromkeys(("not_equivalent", "not_duplicate", "False", "0"), NEGATE),
    "neutral": UNSURE,
    "acceptable": SENSIBLE,
    "unacceptable": ABSURD,
}

_MORE = _words(
    "What is true about it ? Who owns belongs to . , : ) * _ @placeholder @highlight and report "
    "was cause happened as result 0 1 2 3 4 5 Old | & #"
)
WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        word
        for group in (
            FILLER, _MORE, NAMES, THINGS, tuple(thing + "s" for thing in THINGS), ACCENTED,
            NUMBERS, UNSURE, *CUES.values(),
        )
        for word in group
    )
)  # fmt: skip
