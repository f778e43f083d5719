"""Reading comprehension: a span of the passage. One head for all.

``answers`` holds gold spans: the text and its offset into ``text`` in code points. Where the raw
rows give no offsets, spans are searched, and rows without one are left out and counted.
"""

from __future__ import annotations

from muppet_dag.catalogue.sql import find_answers, find_word, let, plain, window
from muppet_dag.catalogue.task import CONVERTED, hub, mrc

SQUAD_ANSWERS = (
    "list_transform(list_zip(answers.text, answers.answer_start), "
    "lambda a: {'text': a[1], 'start': a[2]})"
)


def _none(answers: str) -> dict[str, str]:
    """Leave out the rows without a gold span."""
    return {"answer not in passage": f"coalesce(len({answers}), 0) = 0"}


squad = mrc(
    hub("rajpurkar/squad", "plain_text"), id="id",
    text="context", query="question", answers=SQUAD_ANSWERS,
    rows={"train": 87599, "validation": 10570},
    licence="cc-by-sa-4.0", citation="Rajpurkar et al. 2016",
)  # fmt: skip

squad_v2 = mrc(
    hub("rajpurkar/squad_v2", "squad_v2"), id="id",
    text="context", query="question", answers=SQUAD_ANSWERS,
    rows={"train": 130319, "validation": 11873},
    licence="cc-by-sa-4.0", citation="Rajpurkar et al. 2018",
    about="a third of the training questions is unanswerable (no answers) and stays",
)  # fmt: skip


# --- Answers to be found in the passage -----------------------------------------------------------

# Counts, sums and differences stand nowhere; a single digit that does is mostly there by accident.
# The parts of a list answer count as alternatives, since the raw rows do not tell them apart.
DROP_ANSWERS = find_answers(
    "passage",
    r"list_filter(answers_spans.spans, lambda answer: NOT regexp_matches(answer, '^\d$'))",
)

drop = mrc(
    hub("ucinlp/drop"), id="query_id",
    text="passage", query="question", answers=DROP_ANSWERS, drop=_none(DROP_ANSWERS),
    metrics=("drop_exact_match", "drop_f1"),
    rows={"train": 77400, "validation": 9535},
    licence="cc-by-sa-4.0", citation="Dua et al. 2019",
    about="only the questions whose answer is a span of the passage",
)  # fmt: skip

# The query is a statement with the gap @placeholder; each right entity counts where it comes first.
RECORD_ANSWERS = find_answers("passage", "answers")

record = mrc(
    hub("aps/super_glue", "record", revision=CONVERTED),
    id="concat_ws('-', idx.passage, idx.query)",
    text="passage", query="query", answers=RECORD_ANSWERS, drop=_none(RECORD_ANSWERS),
    rows={"train": 100730, "validation": 10000}, licence="other", citation="Zhang et al. 2018",
)  # fmt: skip


# --- HotpotQA: ten paragraphs, each one line "title: sentences" -----------------------------------

HOTPOT_LINES = (
    "list_transform(list_zip(context.title, context.sentences), "
    "lambda part: {'title': part[1], 'line': part[1] || ': ' || array_to_string(part[2], '')})"
)
HOTPOT_TEXT = f"array_to_string(list_transform({HOTPOT_LINES}, lambda part: part.line), chr(10))"
# The answer counts where it stands in a supporting paragraph; elsewhere it proves nothing.
HOTPOT_SUPPORT = (
    f"list_filter({HOTPOT_LINES}, lambda part: "
    "list_contains(supporting_facts.title, part.title) AND strpos(passage, part.line) > 0)"
)
HOTPOT_SPAN = (
    "{'text': answer, 'start': CASE WHEN place >= 0 "
    "THEN strpos(passage, part.line) - 1 + place END}"
)
HOTPOT_ANSWERS = let("passage", HOTPOT_TEXT, (
    f"list_filter(list_transform({HOTPOT_SUPPORT}, "
    f"lambda part: {let('place', find_word('part.line', 'answer'), HOTPOT_SPAN)}), "
    "lambda span: span.start IS NOT NULL)"
))  # fmt: skip

hotpotqa = mrc(
    hub("hotpotqa/hotpot_qa", "distractor", revision=CONVERTED), id="id",
    text=HOTPOT_TEXT, query="question", answers=HOTPOT_ANSWERS,
    drop={"answer is yes or no": "answer IN ('yes', 'no')"} | _none(HOTPOT_ANSWERS),
    rows={"train": 90447, "validation": 7405},
    licence="cc-by-sa-4.0", citation="Yang et al. 2018",
    about="distractor setting: all ten paragraphs; yes/no questions are dropped",
)  # fmt: skip


# --- TriviaQA: whole documents, cut to a window around the first answer ---------------------------

TRIVIA_ALIASES = "list_prepend(answer.value, answer.aliases)"
TRIVIA_DOCUMENTS = "list_concat(entity_pages.wiki_context, search_results.search_context)"
TRIVIA_FIRST = (
    f"list_min(list_filter(list_transform({TRIVIA_ALIASES}, "
    f"lambda alias: {find_word('document', 'alias')}), lambda start: start >= 0))"
)
TRIVIA_TEXT = (
    f"coalesce(list_filter(list_transform({TRIVIA_DOCUMENTS}, "
    f"lambda document: {let('start', TRIVIA_FIRST, window('document', 'start'))}), "
    "lambda part: part IS NOT NULL)[1], '')"
)
TRIVIA_ANSWERS = let("passage", TRIVIA_TEXT, find_answers("passage", TRIVIA_ALIASES))

triviaqa = mrc(
    hub("mandarjoshi/trivia_qa", "rc"), id="question_id",
    text=TRIVIA_TEXT, query="question", answers=TRIVIA_ANSWERS, drop=_none(TRIVIA_ANSWERS),
    metrics=("trivia_exact_match", "trivia_f1"),
    rows={"train": 138384, "validation": 17944}, citation="Joshi et al. 2017",
    about="of the first document that holds an alias of the answer, 4,000 characters around it",
)  # fmt: skip


# --- Natural Questions, in the short form of MRQA: passages, and spans whose end is inclusive -----

NQ_SPANS = (
    "flatten(list_transform(detected_answers.char_spans, lambda answer: "
    "list_transform(list_zip(answer.start, answer.end), lambda span: "
    "{'text': substr(context, span[1] + 1, span[2] - span[1] + 1), 'start': span[1]})))"
)
# A span counts if it reads as one of the answers does, up to case and white space.
NQ_ANSWERS = (
    f"list_filter({NQ_SPANS}, lambda span: list_contains("
    f"list_transform(detected_answers.text, lambda alias: {plain('alias')}), {plain('span.text')}))"
)

natural_questions = mrc(
    hub("mrqa-workshop/mrqa", "plain_text", revision=CONVERTED), id="qid",
    text="context", query="question", answers=NQ_ANSWERS,
    drop={"other subset": "subset <> 'NaturalQuestionsShort'"} | _none(NQ_ANSWERS),
    rows={"train": 516819, "validation": 58221},
    licence="cc-by-sa-3.0", citation="Kwiatkowski et al. 2019; Fisch et al. 2019",
    about="the short-answer form of MRQA (passages with spans), not the original HTML pages; "
          "official counts are of all subsets of MRQA",
)  # fmt: skip
