"""SQL that several entries share, as functions that return DuckDB expressions.

Offsets are 0-based and count code points, as in Python; DuckDB's own functions count from 1.
"""

from __future__ import annotations

#: A letter or digit of any script, as a pattern (RE2's ``\\w`` and ``\\b`` know ASCII only).
_WORD = r"[\p{L}\p{M}\p{N}_]"
#: An HTML tag; a "<" before a blank or a number is text.
_TAG = "'</?[A-Za-z][^<>]*>'"


def key_index(labels: str, key: str) -> str:
    """Index of ``key`` among ``labels``; a blank key is unlabelled (NULL), an unknown one -2.

    -2 lies outside every label range, so the normaliser reports the row instead of dropping it.
    """
    return (
        f"CASE WHEN {blank(key)} THEN NULL "
        f"ELSE coalesce(nullif(list_position({labels}, {key}), 0) - 1, -2) END"
    )


def let(name: str, value: str, body: str) -> str:
    """``body`` with ``value`` known as ``name``: long expressions are written and computed once."""
    return f"list_transform([{value}], lambda {name}: {body})[1]"


#: White space of any kind, and signs that nobody sees: controls, zero-width and filling ones.
_UNSEEN = r"\s\p{Z}\p{Cc}\p{Cf}\x{034F}\x{115F}\x{1160}\x{2800}\x{3164}\x{FFA0}\x{FE00}-\x{FE0F}"


def blank(text: str) -> str:
    """Whether a text is NULL or shows nothing: white space of any kind, controls, zero-width signs.

    The one definition of "nothing to read" for texts, choices, answers, targets and labels.
    """
    # A text that opens with a visible sign of ASCII needs no search, and nearly all do.
    visible = f"coalesce(unicode({text}) BETWEEN 33 AND 126, false)"
    signs = f"coalesce(regexp_matches({text}, '[^{_UNSEEN}]'), false)"
    return f"(CASE WHEN {visible} THEN false ELSE NOT {signs} END)"


def fold(text: str) -> str:
    """A name for comparing: composed, in lower case, runs of white space and underscores as one."""
    return f"trim(lower(regexp_replace(nfc_normalize({text}), '[\\s\\p{{Z}}_]+', ' ', 'g')))"


def strip(text: str) -> str:
    """Without white space at both ends (DuckDB's ``trim`` alone leaves line breaks)."""
    return f"trim({text}, ' ' || chr(9) || chr(10) || chr(13))"


def from_html(text: str) -> str:
    """``text`` without tags, decimal and the common named entities, and runs of white space.

    Entities may be escaped twice (``S&amp;amp;P``), as they are in text that was scraped.
    """
    once = f"replace({text}, '&amp;', '&')"
    lines = f"regexp_replace({once}, '</?(p|br)\\b[^<>]*>', ' ', 'g')"
    bare = f"regexp_replace({lines}, {_TAG}, '', 'g')"
    # A part behind "&#" opens with the number of a character, or else was no entity.
    code = r"TRY_CAST(regexp_extract(part, '^(\d{1,7});', 1) AS INTEGER)"
    valid = f"({code} BETWEEN 9 AND 55295 OR {code} BETWEEN 57344 AND 1114111)"
    decoded = f"if({valid}, chr({code}) || substr(part, strpos(part, ';') + 1), '&#' || part)"
    parts = f"list_transform(string_split({bare}, '&#'), "
    out = f"array_to_string({parts}lambda part, place: if(place = 1, part, {decoded})), '')"
    for name, sign in {"nbsp": " ", "lt": "<", "gt": ">", "quot": '"', "amp": "&"}.items():
        out = f"replace({out}, '&{name};', '{sign}')"
    return strip(f"regexp_replace({out}, '\\s+', ' ', 'g')")


def mark(text: str, start: str, end: str, sign: str) -> str:
    """``text`` with ``sign`` put before offset ``start`` and before offset ``end``."""
    return (
        f"substr({text}, 1, {start}) || '{sign}' || "
        f"substr({text}, {start} + 1, {end} - {start}) || '{sign}' || substr({text}, {end} + 1)"
    )


def window(document: str, start: str, size: int = 4000) -> str:
    """About ``size`` characters of ``document`` around offset ``start``, cut between words.

    Words cut in two at the edges are left out, lest "124" end as the number "24". NULL without an
    offset.
    """
    low = f"({start} - least({start}, {size // 2}))"
    part = f"substr({document}, {low} + 1, {size})"
    head = f"CASE WHEN {low} > 0 THEN regexp_replace({part}, '^\\S+', '') ELSE {part} END"
    cut = f"CASE WHEN length({document}) > {low} + {size} THEN regexp_replace({head}, '\\S+$', '') "
    return strip(f"({cut} ELSE {head} END)")


def plain(text: str) -> str:
    """In lower case with single blanks, for comparing texts."""
    return f"lower(regexp_replace({strip(text)}, '\\s+', ' ', 'g'))"


def find_word(text: str, needle: str) -> str:
    """Offset of the first ``needle`` in ``text`` that is no part of a longer word or number, or -1.

    "24" is found neither in "124", "1,240" nor "3.24", but in "$24", "24%" and "24-yard". An end
    of the needle that is punctuation itself may touch a word: "$24" is found in "US$24".
    """
    # What stands between the needles, so that only the seams need a look. An empty needle parts
    # nothing. Patterns built per row would take a hundred times longer than these constant ones.
    parts = f"string_split({text}, nullif({needle}, ''))"
    # A part may be empty between two needles that touch: then the needle itself is the neighbour.
    left = f"right(if(seam > 1, {needle}, '') || parts[seam], 2)"
    right = f"left(parts[seam + 1] || if(seam + 1 < len(parts), {needle}, ''), 2)"
    cut_before = f"regexp_matches({left} || left({needle}, 1), '{_WORD}{_WORD}$|\\d[.,]\\d$')"
    cut_behind = f"regexp_matches(right({needle}, 1) || {right}, '^{_WORD}{_WORD}|^\\d[.,]\\d')"
    whole = f"lambda seam: NOT {cut_before} AND NOT {cut_behind}"
    first = f"list_filter(range(1, len(parts)), {whole})[1]"
    start = "length(array_to_string(parts[1:first_seam], '')) "
    start += f"+ (first_seam - 1) * length({needle})"
    return f"coalesce({let('parts', parts, let('first_seam', first, start))}, -1)"


def find_answers(text: str, needles: str) -> str:
    """Gold spans: each of ``needles`` where it first stands in ``text``, if at all, in their order.

    ``text`` is used once for every needle: name it with :func:`let` when it is long to compute.
    """
    # list_distinct would lose the order.
    once = f"list_filter({needles}, lambda needle, i: list_position({needles}, needle) = i)"
    span = f"{{'text': needle, 'start': {find_word(text, 'needle')}}}"
    spans = f"list_transform({once}, lambda needle: {span})"
    return f"list_filter({spans}, lambda span: span.start >= 0)"
