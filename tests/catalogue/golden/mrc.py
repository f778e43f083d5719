"""Golden rows of the reading comprehension tasks. Offsets count characters, not bytes."""

from __future__ import annotations

from typing import Any


def span(text: str, start: int) -> dict[str, Any]:
    return {"text": text, "start": start}


NOT_THERE = "answer not in passage"
CONTEXT = "Zoë 🦊 met 東京 Ann, Ann."


def squad(text: list[str], start: list[int]) -> tuple:
    raw = {"id": "1", "title": "T", "context": CONTEXT, "question": "Who?",
           "answers": {"text": text, "answer_start": start}}  # fmt: skip
    spans = [span(*each) for each in zip(text, start, strict=True)]
    return raw, {"id": "1", "text": CONTEXT, "query": "Who?", "answers": spans}


YARDS = "é 124 yards, 3 of 24."


def drop(*spans: str) -> dict[str, Any]:
    return {"query_id": "q", "passage": YARDS, "question": "?",
            "answers_spans": {"spans": list(spans), "types": ["number"] * len(spans)}}  # fmt: skip


NEWS = "Trumps. Donald Trump won. Trump, Zoë"


def record(answers: list[str], *spans: dict[str, Any]) -> tuple:
    raw = {"passage": NEWS, "query": "@placeholder won", "entities": [], "answers": answers,
           "idx": {"passage": 1, "query": 2}}  # fmt: skip
    row = {"id": "1-2", "text": NEWS, "query": "@placeholder won", "answers": list(spans)}
    return raw, row if spans else NOT_THERE


REX = "Rex: Rex saw Ann.\nAnn: Zoë. Ann, 40, sat."


def hotpot(answer: str, *spans: dict[str, Any], why: str = NOT_THERE) -> tuple:
    context = {"title": ["Rex", "Ann"], "sentences": [["Rex saw Ann."], ["Zoë.", " Ann, 40, sat."]]}
    raw = {"id": "h", "question": "Q", "answer": answer, "context": context,
           "supporting_facts": {"title": ["Ann", "Ann"], "sent_id": [0, 9]}}  # fmt: skip
    return raw, {"id": "h", "text": REX, "query": "Q", "answers": list(spans)} if spans else why


def trivia(wiki: list[str], web: list[str]) -> dict[str, Any]:
    answer = {"value": "NYC", "aliases": ["New York", "NYC", "York"]}
    return {"question_id": "t", "question": "Q", "entity_pages": {"wiki_context": wiki},
            "search_results": {"search_context": web}, "answer": answer}  # fmt: skip


def mrqa(text: list[str], *places: tuple[int, int], subset: str = "NaturalQuestionsShort") -> dict:
    spans = [{"start": [start], "end": [end]} for start, end in places]
    return {"subset": subset, "context": "é: Ann, ann.", "qid": "n", "question": "who",
            "detected_answers": {"text": text, "char_spans": spans}}  # fmt: skip


GOLDEN = {
    "squad": [
        squad(["Ann"], [13]),
        squad(["Ann", "東京 Ann"], [18, 10]),
        squad(["🦊"], [4]),
    ],
    # No answer: the question cannot be answered, and the row stays.
    "squad_v2": [squad([], []), squad(["Ann"], [13])],
    # "24" is no part of "124"; sums, and digits that stand there by accident, are no spans.
    "drop": [
        (drop("24"), dict(id="q", text=YARDS, query="?", answers=[span("24", 18)])),
        (drop("yards", "24", "yards"),
         dict(id="q", text=YARDS, query="?", answers=[span("yards", 6), span("24", 18)])),
        (drop("12"), NOT_THERE),
        (drop("3"), NOT_THERE),
        (drop(), NOT_THERE),
    ],
    # Several entities may be right; each counts where it first stands as a word.
    "record": [
        record(["Trump", "Obama"], span("Trump", 15)),
        record(["Zoë", "Donald Trump", "Zoë"], span("Zoë", 33), span("Donald Trump", 8)),
        record(["Obama"]),
        record([]),
    ],
    # Paragraphs that support nothing hold answers by accident.
    "hotpotqa": [
        hotpot("Ann", span("Ann", 18)),
        hotpot("40", span("40", 33)),
        hotpot("Rex"),
        hotpot("yes", why="answer is yes or no"),
        hotpot("no", why="answer is yes or no"),
    ],
    "triviaqa": [
        (trivia(["Yorkshire only"], ["I love New York."]),
         dict(id="t", text="I love New York.", query="Q",
              answers=[span("New York", 7), span("York", 11)])),
        (trivia(["é NYC, not New Yorkers"], ["York"]),
         dict(id="t", text="é NYC, not New Yorkers", query="Q", answers=[span("NYC", 2)])),
        (trivia([], ["Yorkshire"]), NOT_THERE),
    ],
    # Ends are inclusive; a span that reads unlike every answer does not count.
    "natural_questions": [
        (mrqa(["Ann", "Bob"], (3, 5), (8, 10), (0, 3)),
         dict(id="n", text="é: Ann, ann.", query="who", answers=[span("Ann", 3), span("ann", 8)])),
        (mrqa(["Bob"], (3, 5)), NOT_THERE),
        (mrqa(["Ann"], (3, 5), subset="SQuAD"), "other subset"),
    ],
}  # fmt: skip
