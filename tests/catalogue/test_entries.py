"""Golden rows: invented raw rows, and exactly what each entry's SQL makes of them."""

from __future__ import annotations

import re
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from muppet_dag.catalogue import TASKS
from muppet_dag.catalogue.sql import find_word, let, strip, window
from muppet_dag.samples.make import SAMPLES
from muppet_dag.samples.schema import arrow_schema

METRICS = {
    "classification": {
        "accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "question_exact_match",
    },
    "commonsense": {"accuracy"},
    "mrc": {"exact_match", "f1"},
    "summarization": {"rouge1", "rouge2", "rougeL"},
}  # fmt: skip


def normalised(task: str, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    """What the entry makes of raw rows (columns left out are null); ``dropped`` says why."""
    entry, schema = TASKS[task], arrow_schema(SAMPLES[task][0])
    raw = pa.Table.from_pylist(list(rows), schema=schema)  # noqa: F841 (DuckDB finds it by name)
    reasons = " ".join(f"WHEN {sql} THEN '{reason}'" for reason, sql in entry.drop.items())
    columns = [f"{sql} AS {name}" for name, sql in entry.columns.items()]
    columns += [f"CASE {reasons} END AS dropped"] if reasons else []
    with duckdb.connect() as con:
        return con.sql(f"SELECT {', '.join(columns)} FROM raw").to_arrow_table().to_pylist()


def one(task: str, **row: Any) -> dict[str, Any]:
    return normalised(task, row)[0]


# --- Every entry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_an_entry_says_what_a_user_must_know(name: str) -> None:
    task = TASKS[name]
    assert re.fullmatch(r"[a-z0-9_]+", name)
    assert task.licence and task.citation
    assert task.metrics and set(task.metrics) <= METRICS[task.family]
    assert set(task.rows) == {part.split for part in task.dataset.slices.values()}
    assert "train" in task.dataset.slices and "validation" in task.dataset.slices


@pytest.mark.parametrize("name", TASKS)
def test_rows_of_nulls_neither_throw_nor_lose_rows(name: str) -> None:
    assert len(normalised(name, {}, {})) == 2


def test_carved_splits_do_not_overlap() -> None:
    for task in TASKS.values():
        parts = task.dataset.slices
        if parts["train"].split == parts["validation"].split:
            assert parts["validation"].high == parts["train"].low


# --- SQL helpers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "needle", "start"),
    [
        ("124 and 24", "24", 8),
        ("1,240 or 3.24 or 24.", "24", 17),
        ("24", "24", 0),
        ("24,000", "24", -1),
        ("from 1990s to 1990", "1990", 14),
        ("a 24-yard run", "24", 2),
        ("2424 24", "24", 5),
        ("cost US$24 once", "$24", 7),
        ("cost $245", "$24", -1),
        ("f(x) and (x)", "(x)", 1),
        ("a.b*c [d] \\e", "b*c [d] \\e", 2),
        ("axb a.b", "a.b", 4),
        ("O'Neil's", "O'Neil", 0),
        ("it is the end", "end", 10),
        ("the weekend end", "end", 12),
        ("naïve café 東京 24", "24", 14),
        ("🦊🦊 fox", "fox", 3),
        ("cafés café", "café", 6),
        ("cafe\u0301 cafe", "cafe", 6),
        ("line\nKey", "Key", 5),
        ("hahaha ha", "ha", 7),
        ("abc", "", -1),
        ("", "abc", -1),
        (None, "abc", -1),
        ("abc", None, -1),
    ],
)
def test_find_word(text: str | None, needle: str | None, start: int) -> None:
    sql = f"SELECT {find_word('t', 'n')} FROM (SELECT ?::VARCHAR AS t, ?::VARCHAR AS n)"
    assert duckdb.execute(sql, [text, needle]).fetchone() == (start,)
    if start >= 0:
        assert text[start:].startswith(needle)


def test_a_window_is_cut_between_words() -> None:
    text = "aaa bbb ccc ddd eee"
    cut = let("w", window("t", "s", 8), "w")

    def at(start: int | None) -> str | None:
        sql = f"SELECT {cut} FROM (SELECT ?::VARCHAR AS t, ?::INTEGER AS s)"
        return duckdb.execute(sql, [text, start]).fetchone()[0]

    assert at(0) == "aaa bbb"
    assert at(9) == "ccc"  # of "bb ccc d"
    assert at(17) == "eee"  # of "d eee"
    assert at(None) is None


def test_strip_takes_line_breaks() -> None:
    assert duckdb.execute(f"SELECT {strip('?')}", ["\n\t a b \r\n"]).fetchone() == ("a b",)


# --- Classification -------------------------------------------------------------------------------


def test_boolq() -> None:
    raw = {"question": "is it", "passage": "It is.", "idx": 3, "label": 1}
    assert normalised("boolq", raw) == [{"text": "It is.", "query": "is it", "label": 1}]


def test_stsb_is_a_number() -> None:
    rows = normalised("stsb", {"sentence1": "A", "sentence2": "B", "label": 2.5, "idx": 0},
                      {"sentence1": "A", "sentence2": "B", "label": -1.0, "idx": 1})  # fmt: skip
    assert rows[0] == {"text": "A", "query": "B", "score": 2.5}
    assert rows[1]["score"] == -1.0
    assert TASKS["stsb"].regression and TASKS["stsb"].score_range == (0.0, 5.0)


def test_mnli_has_two_validation_splits() -> None:
    roles = {role: part.split for role, part in TASKS["mnli"].dataset.slices.items()}
    assert roles == {"train": "train", "validation": "validation_matched",
                     "validation_mismatched": "validation_mismatched"}  # fmt: skip
    raw = {"premise": "P", "hypothesis": "H", "label": 2, "idx": 0}
    assert normalised("mnli", raw) == [{"text": "P", "query": "H", "label": 2}]


def test_label_orders_differ_between_look_alikes() -> None:
    assert TASKS["mnli"].classes == ("entailment", "neutral", "contradiction")
    assert TASKS["cb"].classes == ("entailment", "contradiction", "neutral")
    assert TASKS["rte"].classes == TASKS["wnli"].classes[::-1]


def test_multirc_keeps_the_question_in_the_id() -> None:
    raw = {"paragraph": "P", "question": "Q?", "answer": "A",
           "idx": {"paragraph": 1, "question": 20, "answer": 3}, "label": 0}  # fmt: skip
    assert normalised("multirc", raw) == [
        {"id": "1-20-3", "text": "P", "query": "Q? A", "label": 0}
    ]


def test_wic_marks_an_inflected_word_by_its_offsets() -> None:
    raw = {"word": "go", "sentence1": "Zoë, go!", "start1": 5, "end1": 7,
           "sentence2": "She went out", "start2": 4, "end2": 8, "idx": 0, "label": 1}  # fmt: skip
    assert normalised("wic", raw) == [{"text": "Zoë, *go*!", "query": "She *went* out", "label": 1}]


@pytest.mark.parametrize(
    ("text", "noun", "pronoun", "marked"),
    [
        ("The old cat, it slept.", (0, "The old cat"), (3, "it"), "*The old cat*, _it_ slept."),
        ("Patting her dog , Ann left", (4, "Ann"), (1, "her"), "Patting _her_ dog , *Ann* left"),
        ("So their mothers ran", (1, "their mothers"), (1, "their"), "So *_their_ mothers* ran"),
    ],
)
def test_wsc_marks_both_spans_in_any_order(
    text: str, noun: tuple[int, str], pronoun: tuple[int, str], marked: str
) -> None:
    raw = {"text": text, "span1_index": noun[0], "span1_text": noun[1],
           "span2_index": pronoun[0], "span2_text": pronoun[1], "label": 1}  # fmt: skip
    assert normalised("wsc", raw) == [{"text": marked, "label": 1}]


def test_yelp_text_loses_its_escapes() -> None:
    assert one("yelp_polarity", text=r"Good.\n\n\"Yes\"", label=1)["text"] == 'Good.  "Yes"'


# --- Commonsense ----------------------------------------------------------------------------------


def test_copa_asks_in_words() -> None:
    raw = {"premise": "It fell.", "choice1": "A", "choice2": "B", "question": "cause", "label": 1}
    cause, effect = normalised("copa", raw, raw | {"question": "effect", "label": -1})
    assert cause == {"text": "It fell.", "query": "What was the cause of this?",
                     "choices": ["A", "B"], "label": 1}  # fmt: skip
    assert (effect["query"], effect["label"]) == ("What happened as a result?", -1)


@pytest.mark.parametrize(
    ("options", "choices"),
    [
        ("a ) 24 , b ) rs . 1 , 000 , c ) 3 ( a + b ) , d ) 5 ' , e ) none",
         ["24", "rs . 1 , 000", "3 ( a + b )", "5 '", "none"]),
        ("['a ) 8', 'b ) 1 , 5', \"c ) 6 '\", 'd ) 4', 'e ) 6']",
         ["8", "1 , 5", "6 '", "4", "6"]),
        ("24 or 25", []),
    ],
)  # fmt: skip
def test_mathqa_parts_both_forms_of_options(options: str, choices: list[str]) -> None:
    raw = {"Problem": "how many a ) ?", "Rationale": "it is e", "options": options, "correct": "e"}
    assert normalised("mathqa", raw) == [
        {"text": "", "query": "how many a ) ?", "choices": choices, "label": 4}
    ]


def test_hellaswag_label_is_a_string_and_marks_go() -> None:
    raw = {"ctx": "[header] Cook [title] Boil", "endings": ["[step] a", "b", "c", "d"]}
    named, empty, odd = normalised("hellaswag", *(raw | {"label": x} for x in ("3", "", "7")))
    assert named == {"text": "Cook. Boil", "choices": ["a", "b", "c", "d"], "label": 3}
    assert (empty["label"], odd["label"]) == (-1, -2)


def test_arc_matches_the_key_against_the_rows_own_labels() -> None:
    raw = {"id": "x", "question": "Q", "choices": {"text": ["a", "b", "c"], "label": list("123")}}
    rows = normalised("arc_easy", *(raw | {"answerKey": key} for key in ("3", "", "C")))
    assert rows[0] == {"id": "x", "text": "", "query": "Q", "choices": ["a", "b", "c"], "label": 2}
    assert [row["label"] for row in rows] == [2, -1, -2]


def test_sciq_draws_the_place_of_the_answer_by_hash() -> None:
    raw = {"distractor1": "x", "distractor2": "y", "distractor3": "z", "support": "",
           "correct_answer": "gold"}  # fmt: skip
    rows = [raw | {"question": f"Q{number}"} for number in range(40)]
    made = normalised("sciq", *rows)
    assert made == normalised("sciq", *rows)
    assert {row["label"] for row in made} == {0, 1, 2, 3}
    assert all(row["choices"][row["label"]] == "gold" for row in made)
    assert all(sorted(row["choices"]) == ["gold", "x", "y", "z"] for row in made)


def test_swag_begins_each_ending_with_the_second_sentence() -> None:
    raw = {"video-id": "v", "sent1": "He ran.", "sent2": "She", "ending0": "sat.",
           "ending1": "ran.", "ending2": "ate.", "ending3": "won.", "label": 3}  # fmt: skip
    assert normalised("swag", raw) == [{
        "text": "He ran.", "choices": ["She sat.", "She ran.", "She ate.", "She won."], "label": 3,
    }]  # fmt: skip


def test_race_letter() -> None:
    row = one("race_high", article="T", question="Q _", options=list("wxyz"), answer="C")
    assert row == {"text": "T", "query": "Q _", "choices": list("wxyz"), "label": 2}


# --- Reading comprehension ------------------------------------------------------------------------


def test_squad_offsets_count_code_points() -> None:
    context = "Zoë 🦊 met 東京 Ann."
    raw = {"id": "1", "context": context, "question": "Who?",
           "answers": {"text": ["Ann"], "answer_start": [13]}}  # fmt: skip
    made = one("squad", **raw)
    assert made == {"id": "1", "text": context, "query": "Who?",
                    "answers": [{"text": "Ann", "start": 13}]}  # fmt: skip
    assert context[13:16] == "Ann"


def test_squad_v2_keeps_unanswerable_rows() -> None:
    made = one("squad_v2", id="1", context="C", question="Q",
               answers={"text": [], "answer_start": []})  # fmt: skip
    assert made == {"id": "1", "text": "C", "query": "Q", "answers": []}


def test_drop_finds_whole_numbers_only() -> None:
    def spans(*said: str) -> dict[str, Any]:
        kinds = {"spans": list(said), "types": ["number"] * len(said)}
        return {"query_id": "q", "passage": "é 124 yards, 3 of 24.", "question": "?",
                "answers_spans": kinds}  # fmt: skip

    rows = normalised("drop", spans("24"), spans("12"), spans("3"), spans("yards", "24", "yards"))
    assert rows[0]["answers"] == [{"text": "24", "start": 18}]
    assert [row["dropped"] for row in rows] == [None, *["answer not in passage"] * 2, None]
    assert [answer["text"] for answer in rows[3]["answers"]] == ["yards", "24"]


def test_record_answers_stand_where_they_come_first() -> None:
    raw = {"passage": "Trumps. Donald Trump won. Trump", "query": "@placeholder won",
           "entities": [], "answers": ["Trump", "Obama"],
           "idx": {"passage": 1, "query": 2}}  # fmt: skip
    assert normalised("record", raw) == [{
        "id": "1-2", "text": raw["passage"], "query": "@placeholder won",
        "answers": [{"text": "Trump", "start": 15}], "dropped": None,
    }]  # fmt: skip
    assert one("record", **raw | {"answers": []})["dropped"] == "answer not in passage"


def hotpot(answer: str) -> dict[str, Any]:
    context = {"title": ["Rex", "Ann"], "sentences": [["Rex saw Ann."], ["Zoë.", " Ann, 40, sat."]]}
    return {"id": "h", "question": "Q", "answer": answer, "context": context,
            "supporting_facts": {"title": ["Ann", "Ann"], "sent_id": [0, 9]}}  # fmt: skip


def test_hotpotqa_counts_only_supporting_paragraphs() -> None:
    text = "Rex: Rex saw Ann.\nAnn: Zoë. Ann, 40, sat."
    assert one("hotpotqa", **hotpot("Ann")) == {
        "id": "h", "text": text, "query": "Q", "answers": [{"text": "Ann", "start": 18}],
        "dropped": None,
    }  # fmt: skip
    assert one("hotpotqa", **hotpot("40"))["answers"] == [{"text": "40", "start": 33}]
    assert text[33:35] == "40"
    rows = normalised("hotpotqa", hotpot("yes"), hotpot("no"), hotpot("Rex"))
    reasons = ["answer is yes or no", "answer is yes or no", "answer not in passage"]
    assert [row["dropped"] for row in rows] == reasons


def trivia(wiki: list[str], web: list[str]) -> dict[str, Any]:
    answer = {"value": "NYC", "aliases": ["New York", "NYC", "York"]}
    return {"question_id": "t", "question": "Q", "entity_pages": {"wiki_context": wiki},
            "search_results": {"search_context": web}, "answer": answer}  # fmt: skip


def test_triviaqa_takes_the_first_document_with_an_alias() -> None:
    row = one("triviaqa", **trivia(["Yorkshire only"], ["I love New York."]))
    assert row == {"id": "t", "text": "I love New York.", "query": "Q", "dropped": None,
                   "answers": [{"text": "New York", "start": 7},
                               {"text": "York", "start": 11}]}  # fmt: skip
    none = one("triviaqa", **trivia([], ["Yorkshire"]))
    assert (none["text"], none["dropped"]) == ("", "answer not in passage")


def test_triviaqa_cuts_long_documents_around_the_answer() -> None:
    row = one("triviaqa", **trivia(["word " * 3000 + "in NYC now" + " word" * 3000], []))
    (answer,) = row["answers"]
    assert 3900 < len(row["text"]) <= 4000
    assert row["text"][answer["start"] :].startswith("NYC now")


def test_natural_questions_spans_end_inclusive() -> None:
    spans = [{"start": [3, 8], "end": [5, 10]}, {"start": [0], "end": [3]}]
    raw = {
        "subset": "NaturalQuestionsShort",
        "context": "é: Ann, ann.",
        "qid": "n",
        "question": "who",
        "detected_answers": {"text": ["Ann", "Bob"], "char_spans": spans},
    }
    made, other = normalised("natural_questions", raw, raw | {"subset": "SQuAD"})
    assert made == {"id": "n", "text": "é: Ann, ann.", "query": "who", "dropped": None,
                    "answers": [{"text": "Ann", "start": 3},
                                {"text": "ann", "start": 8}]}  # fmt: skip
    assert other["dropped"] == "other subset"


# --- Summarization --------------------------------------------------------------------------------


def test_aeslc_subject_loses_its_line_break() -> None:
    row = one("aeslc", email_body="Hi,\nall", subject_line="Re: lunch\n")
    assert row == {"text": "Hi,\nall", "target": "Re: lunch"}


def test_xsum_leaves_out_empty_documents() -> None:
    assert one("xsum", document=" \n", summary="S", id="1")["dropped"] == "empty document"
