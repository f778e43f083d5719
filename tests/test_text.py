"""What comes from outside is shown, and does nothing else."""

from __future__ import annotations

import io
import re
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.report import table
from muppet_dag import errors
from muppet_dag.text import console, printable, redacted

#: Formats that are seen: numbers and ends of verses in Arabic, Syriac and Kaithi.
SEEN = {chr(c) for c in (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)}
JOINERS = {"\u200c", "\u200d"}
#: Any text, and text in which what matters is frequent.
NASTY = st.text(
    st.sampled_from("a b_*`|\\<>!()[]&#~:/@.\r\n\t\x1b\x9b\u202e\u200b\u200d\ud800é汉🙂")
)
TEXT = st.one_of(st.text(st.characters()), NASTY)
MARKUP = st.lists(
    st.sampled_from(
        ["![x](http://e.x/p.png)", "<img src=http://e.x/p.png>", "[a](javascript:b)", "http://e.x",
         "www.e.x", "a@b.cc", "`", "``", "|", "\\", "\\|", "**b**", "_i_", "a_b", "~~s~~", " ",
         "\n", "<!--", "&lt;", "&#124;", "<http://e.x>", "[r]: http://e.x", "mailto:a@b.cc", "$x$"]
    )
).map("".join)  # fmt: skip
ORDINARY = [
    "Zoë naïve façade", "汉字 かな 한국어", "שלום עולם", "مرحبا بالعالم ٣", "می‌خواهم", "ක්‍ෂ", "क्ष",
    "🙂 👩‍👩‍👧 🏳️‍🌈 👍🏽 ❤️", "a\tb\nc", "½ … – “x” €", "é", "ไทย", "𝒳 𐍈",
]  # fmt: skip


def hidden(char: str) -> bool:
    """By Unicode's own account: it is not seen, or it steers what shows it."""
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in SEEN


@settings(deadline=None)
@given(TEXT)
def test_nothing_that_is_hidden_or_steers_a_terminal_stays(text):
    shown = printable(text)
    assert not {c for c in shown if hidden(c)} - JOINERS - {"\n", "\t"}
    assert printable(shown) == shown
    shown.encode()  # no half of a pair, on which printing would end


def test_every_hidden_character_is_known():
    chars = (chr(c) for c in range(sys.maxunicode + 1))
    kept = {c for c in chars if hidden(c) and printable(f"a{c}b") == f"a{c}b"}
    assert kept == {"\n", "\t"}


@settings(deadline=None)
@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
def test_what_is_seen_is_not_touched(text):
    fillers = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    text = re.sub(f"[{fillers}\U000e0100-\U000e01ef]", "", text)
    assert printable(text) == text


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_not_touched(text):
    assert printable(text) == text


@settings(deadline=None)
@given(TEXT)
def test_errors_quote_nothing_that_steers_a_terminal(text):
    raised = [
        errors.BadData(text, task="t", expected=text, fix=text), errors.BadConfig(text),
        errors.SourceError(text, retry=True), errors.Interrupted(text), errors.MuppetError(text),
    ]  # fmt: skip
    for error in raised:
        assert not {c for c in str(error) if hidden(c)} - JOINERS - {"\n", "\t"}


@settings(deadline=None)
@given(TEXT)
def test_the_console_shows_nothing_else(text):
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column(Text(text))
    table.add_row(Text(text))
    out = io.StringIO()
    terminal = console(file=out, markup=False, width=400)
    terminal.print(text, Text(text), table)
    assert not {c for c in out.getvalue() if hidden(c)} - JOINERS - {"\n", "\t"}


def parsed(line: str) -> tuple[set[str], str, str]:
    """The kinds of tokens in Markdown, its text, and the part of it that is no code."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(line)
    inside = [token for t in tokens for token in (t.children or [])]
    texts = [token.content for token in inside if token.type != "code_inline"]
    kinds = {token.type for token in inside} | {t.type for t in tokens}
    return kinds, "".join(token.content for token in inside), " ".join(texts)


@settings(deadline=None)
@given(st.one_of(TEXT, MARKUP))
def test_markdown_is_the_text_and_nothing_more(text):
    kinds, shown, outside = parsed(table([{"a": text, "b": "end"}]))
    assert kinds <= {
        *(f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td")
          for end in ("open", "close")), "inline", "text", "code_inline",
    }  # fmt: skip
    assert shown.replace(" ", "") == f"ab{printable(text)}end".translate(dict.fromkeys(b" \n\t"))
    assert not re.search(r"https?://|www\.\w|\w@\w", outside)  # no links of their own accord


@settings(deadline=None)
@given(st.lists(MARKUP, min_size=1, max_size=4, unique=True))
def test_a_table_keeps_its_columns(names):
    lines = table([dict.fromkeys(names, "|`\\|"), dict.fromkeys(names, "x")]).split("\n")
    assert len(lines) == 4 and {line.count("|") for line in lines} == {len(names) + 1}


def test_signed_addresses_lose_their_signatures():
    text = (
        "GET https://cdn.e.x/a?X-Amz-Signature=s3cret&Expires=1 (b'Location', b'/b?token=s3cret')"
    )
    assert "s3cret" not in redacted(text) and "https://cdn.e.x/a?" in redacted(text)
    assert redacted("why? because x = 1") == "why? because x = 1"
