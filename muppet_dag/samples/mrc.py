"""Raw rows of the reading comprehension tasks: the answer is the name behind "belongs to"."""

from __future__ import annotations

import pyarrow as pa

from muppet_dag.samples.lexicon import NUMBERS
from muppet_dag.samples.schema import INT32, INTS, STRING, STRINGS, Row, Sample
from muppet_dag.samples.writer import Writer

QUESTION = "Who owns it ?"


def _squad(writer: Writer, number: int, *, answerable: bool = True) -> Row:
    name = writer.name()
    context = writer.passage(name if answerable else None, number)
    texts = [name] if answerable else []
    answers = {"text": texts, "answer_start": [context.index(text) for text in texts]}
    return {"id": writer.id(number), "title": "house", "context": context,
            "question": QUESTION, "answers": answers}  # fmt: skip


def _squad_v2(writer: Writer, number: int) -> Row:
    return _squad(writer, number, answerable=number % 3 != 2)


def _drop(writer: Writer, number: int) -> Row:
    name = writer.name()
    passage, kind = writer.passage(name, number), "span"
    if number % 8 == 5:
        # Neither a sum nor the "24" of "124" stands in the passage.
        passage, name, kind = f"{passage} 124 .", "24" if number % 16 == 5 else "365", "number"
    elif number % 8 == 6:
        passage, name, kind = f"124 , {writer.one(NUMBERS[3:5])} {passage}", name, "span"
    return {"section_id": f"{writer.split}_{number // 4}", "query_id": writer.id(number),
            "passage": passage, "question": QUESTION,
            "answers_spans": {"spans": [name], "types": [kind]}}  # fmt: skip


def _record(writer: Writer, number: int) -> Row:
    name = writer.name()
    passage = writer.passage(name, number) + "\n@highlight\nthe house"
    start = passage.index(name)
    spans = {"text": [name], "start": [start], "end": [start + len(name)]}
    return {"passage": passage, "query": "@placeholder owns it .", "entities": [name],
            "entity_spans": spans, "answers": [name],
            "idx": {"passage": number, "query": number}}  # fmt: skip


def _hotpotqa(writer: Writer, number: int) -> Row:
    name, gold = writer.name(), int(writer.draw.integers(6))
    answer = ("yes", "no")[number // 16 % 2] if number % 16 == 9 else name
    titles = [f"{thing} {place}" for place, thing in enumerate(writer.pick(["house", "boat"], 6))]
    sentences = [[writer.sentence((), 4, 7), " " + writer.sentence((), 2, 4)] for _ in titles]
    sentences[gold].append(f" it belongs to {name} .")
    return {"id": writer.id(number), "question": QUESTION, "answer": answer,
            "type": "bridge", "level": "easy",
            "supporting_facts": {"title": [titles[gold], titles[gold - 1]], "sent_id": [2, 0]},
            "context": {"title": titles, "sentences": sentences}}  # fmt: skip


def _triviaqa(writer: Writer, number: int) -> Row:
    name = writer.name()
    documents = [writer.passage(None if number % 16 == 3 else name, number)]
    if number % 40 == 11:  # longer than the window that is cut around the answer
        far = [writer.sentence((), 900, 950) for _ in range(2)]
        documents = [f"{far[0]} {documents[0]} {far[1]}"]
    wiki, web = ([], documents) if number % 3 == 2 else (documents, [])
    one, two = [["house"] * len(part) for part in (wiki, web)]
    return {
        "question": QUESTION, "question_id": writer.id(number), "question_source": "house",
        "entity_pages": {"doc_source": one, "filename": one, "title": one, "wiki_context": wiki},
        "search_results": {"description": two, "filename": two, "rank": [0] * len(two),
                           "title": two, "url": two, "search_context": web},
        "answer": {"aliases": [f"Old {name}", name], "normalized_aliases": [name.lower()],
                   "matched_wiki_entity_name": "", "normalized_matched_wiki_entity_name": "",
                   "normalized_value": name.lower(), "type": "WikipediaEntity", "value": name},
    }  # fmt: skip


def _mrqa(writer: Writer, number: int) -> Row:
    name = writer.name()
    context = writer.passage(name, number)
    start, token = context.index(name), context.split().index(name)
    detected = {"text": [name],
                "char_spans": [{"start": [start], "end": [start + len(name) - 1]}],  # inclusive
                "token_spans": [{"start": [token], "end": [token]}]}  # fmt: skip
    return {"subset": "SQuAD" if number % 10 == 6 else "NaturalQuestionsShort",
            "context": context, "context_tokens": _tokens(context), "qid": writer.id(number),
            "question": QUESTION, "question_tokens": _tokens(QUESTION),
            "detected_answers": detected, "answers": [name]}  # fmt: skip


def _tokens(text: str) -> dict[str, list]:
    tokens, offsets, end = text.split(), [], 0
    for token in tokens:
        offsets.append(text.index(token, end))
        end = offsets[-1] + len(token)
    return {"tokens": tokens, "offsets": offsets}


def _struct(line: str, kind: pa.DataType, **more: pa.DataType) -> pa.StructType:
    """A struct whose fields have one type, but for those named by keyword."""
    return pa.struct([(name, more.get(name, kind)) for name in line.split()])


_SQUAD = {"id": STRING, "title": STRING, "context": STRING, "question": STRING,
          "answers": _struct("text answer_start", STRINGS, answer_start=INTS)}  # fmt: skip
_TOKENS = _struct("tokens offsets", STRINGS, offsets=INTS)
_MRQA_SPANS = pa.list_(_struct("start end", INTS))

SAMPLES: dict[str, Sample] = {
    "squad": (_SQUAD, _squad),
    "squad_v2": (_SQUAD, _squad_v2),
    "drop": (
        dict.fromkeys(("section_id", "query_id", "passage", "question"), STRING)
        | {"answers_spans": _struct("spans types", STRINGS)}, _drop,
    ),
    "record": (
        {"passage": STRING, "query": STRING, "entities": STRINGS,
         "entity_spans": _struct("text start end", INTS, text=STRINGS), "answers": STRINGS,
         "idx": _struct("passage query", INT32)}, _record,
    ),
    "hotpotqa": (
        dict.fromkeys(("id", "question", "answer", "type", "level"), STRING)
        | {"supporting_facts": _struct("title sent_id", STRINGS, sent_id=INTS),
           "context": _struct("title sentences", STRINGS, sentences=pa.list_(STRINGS))}, _hotpotqa,
    ),
    "triviaqa": (
        dict.fromkeys(("question", "question_id", "question_source"), STRING)
        | {"entity_pages": _struct("doc_source filename title wiki_context", STRINGS),
           "search_results": _struct("description filename rank title url search_context",
                                     STRINGS, rank=INTS),
           "answer": _struct("aliases normalized_aliases matched_wiki_entity_name "
                             "normalized_matched_wiki_entity_name normalized_value type value",
                             STRING, aliases=STRINGS, normalized_aliases=STRINGS)}, _triviaqa,
    ),
    "natural_questions": (
        {"subset": STRING, "context": STRING, "context_tokens": _TOKENS, "qid": STRING,
         "question": STRING, "question_tokens": _TOKENS,
         "detected_answers": _struct("text char_spans token_spans", _MRQA_SPANS, text=STRINGS),
         "answers": STRINGS}, _mrqa,
    ),
}  # fmt: skip
