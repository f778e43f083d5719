"""Raw rows of the classification tasks. The class shows in cue words, the same for all tasks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from muppet_dag.catalogue.classification import TREC_FINE
from muppet_dag.samples.lexicon import AFFIRM, NEGATE, THINGS, TOPICS
from muppet_dag.samples.schema import FLOAT, INT32, STRING, STRINGS, Row, Sample, names
from muppet_dag.samples.writer import Writer

NLI = ("entailment", "neutral", "contradiction")
BOOL = ("False", "True")
COARSE = ("ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM")


def _texts(
    first: str, second: str | None, labels: tuple[str, ...], *,
    idx: bool = False, shown: tuple[str, ...] = (), unlabelled: int = 0,
) -> Sample:  # fmt: skip
    """Rows of one text or two, of which the last shows the class.

    ``shown`` names the cues where the class names say nothing; one row in ``unlabelled`` has -1.
    """
    label = {"label": names(*labels)} | ({"idx": INT32} if idx else {})
    columns = {name: STRING for name in (first, second) if name} | label

    def row(writer: Writer, number: int) -> Row:
        index = number % len(labels)
        texts = [writer.sentence()] * bool(second) + [writer.showing((shown or labels)[index])]
        hidden = unlabelled and number % unlabelled == unlabelled - 1
        values = [*texts, -1 if hidden else index] + [number] * idx
        return dict(zip(columns, values, strict=True))

    return columns, row


def _stsb(writer: Writer, number: int) -> Row:
    score = number % 6
    cues = writer.pick(AFFIRM, score) + writer.pick(NEGATE, 5 - score)
    return {"sentence1": writer.sentence(), "sentence2": writer.sentence(cues, 6, 10),
            "label": np.float32(score), "idx": number}  # fmt: skip


def _boolq(writer: Writer, number: int) -> Row:
    label = number % 2
    return {"question": writer.sentence((), 3, 6), "passage": writer.showing(BOOL[label], 12, 24),
            "idx": number, "label": label}  # fmt: skip


def _super_nli(writer: Writer, number: int) -> Row:
    label = (0, 1, 0, 1, 2)[number % 5]  # neutral is the rare one
    hypothesis = writer.showing(("entailment", "contradiction", "neutral")[label])
    return {"premise": writer.sentence(), "hypothesis": hypothesis, "idx": number, "label": label}


def _multirc(writer: Writer, number: int) -> Row:
    # Four answers a question, two questions a paragraph: the group draws its texts by itself.
    group = Writer(writer.seed, writer.task, f"{writer.split}/{number // 4}")
    paragraph = Writer(writer.seed, writer.task, f"{writer.split}//{number // 8}")
    label = number % 2
    idx = {"paragraph": number // 8, "question": number // 4, "answer": number}
    return {"paragraph": paragraph.sentence((), 15, 30), "question": group.sentence((), 3, 6),
            "answer": writer.showing(BOOL[label], 2, 5), "idx": idx, "label": label}  # fmt: skip


def _wic(writer: Writer, number: int) -> Row:
    label, word = number % 2, writer.one(THINGS)
    row: Row = {"word": word}
    forms = (word, word + "s")  # the second is inflected, so its span is longer than the word
    texts = [writer.sentence(), writer.showing(BOOL[label])]
    for place, (form, text) in enumerate(zip(forms, texts, strict=True), start=1):
        row |= {f"sentence{place}": f"the {form} {text}", f"start{place}": 4}
        row[f"end{place}"] = 4 + len(form)
    return row | {"idx": number, "label": label}


def _wsc(writer: Writer, number: int) -> Row:
    label, thing = number % 2, writer.one(THINGS)
    before, after = writer.tokens((), 2, 6), writer.showing(BOOL[label], 4, 8).split()
    noun, pronoun = ["the", thing], ["it"]
    first, second = (pronoun, noun) if number % 5 == 3 else (noun, pronoun)
    tokens = before + first + ["and"] + second + after
    places = (len(before), len(before) + len(first) + 1)
    span1, span2 = places[::-1] if first is pronoun else places
    return {"text": " ".join(tokens), "span1_index": span1, "span2_index": span2,
            "span1_text": " ".join(noun), "span2_text": "it", "idx": number,
            "label": label}  # fmt: skip


def _hans(writer: Writer, number: int) -> Row:
    label = number % 2
    hypothesis = writer.showing(("entailment", "non-entailment")[label])
    row = {"premise": writer.sentence(), "hypothesis": hypothesis, "label": label}
    return row | dict.fromkeys(_PARSES, "")


def _trec(writer: Writer, number: int) -> Row:
    fine = FINE_ROUND[number % len(FINE_ROUND)]
    coarse, _, rest = fine.partition(":")
    # The coarse class shows in its topic's words, the fine one in a thing.
    thing = (THINGS + tuple(word + "s" for word in THINGS))[FINE[coarse].index(rest)]
    cues = writer.pick(TOPICS[coarse], 3) + [thing] * 2
    return {"text": writer.sentence(cues, 4, 8), "coarse_label": COARSE.index(coarse),
            "fine_label": TREC_FINE.split().index(fine)}  # fmt: skip


def _fine_round() -> tuple[str, ...]:
    """64 fine classes: each one once or more, and of no coarse class fewer than six."""
    counts = {coarse: max(6, len(fine)) for coarse, fine in FINE.items()} | {"NUM": 18}
    return tuple(
        f"{coarse}:{fine[place % len(fine)]}"
        for coarse, fine in FINE.items()
        for place in range(counts[coarse])
    )


FINE = {
    coarse: [name.partition(":")[2] for name in TREC_FINE.split() if name.startswith(coarse)]
    for coarse in COARSE
}
FINE_ROUND = _fine_round()


def _multinli(writer: Writer, number: int) -> Row:
    label, premise = number % 3, writer.sentence()
    hypothesis = writer.showing(NLI[label])
    sentences = {"premise": premise, "hypothesis": hypothesis}
    parses = {
        f"{name}_{kind}": f"( {text} )" for name, text in sentences.items() for kind in _TREES
    }
    return {"promptID": number, "pairID": writer.id(number), "genre": "fiction", "label": label,
            **sentences, **parses}  # fmt: skip


def _scitail(writer: Writer, number: int) -> Row:
    label = number % 2
    return {"premise": writer.sentence(), "hypothesis": writer.showing(NLI[label]),
            "label": ("entails", "neutral")[label]}  # fmt: skip


def _eraser_multirc(writer: Writer, number: int) -> Row:
    label, passage = number % 2, writer.sentence((), 15, 30)
    asked = f"{writer.sentence((), 3, 6)} || {writer.showing(BOOL[label], 2, 5)}"
    return {"passage": passage, "query_and_answer": asked, "label": label,
            "evidences": [passage[:20]]}  # fmt: skip


def _anli(writer: Writer, number: int) -> Row:
    label = number % 3
    return {"uid": writer.id(number), "premise": writer.sentence((), 12, 24),
            "hypothesis": writer.showing(NLI[label]), "label": label,
            "reason": "" if writer.split.startswith("train") else writer.sentence()}  # fmt: skip


def _hyperpartisan(writer: Writer, number: int) -> Row:
    label = number % 2
    first, second = writer.showing(("positive", "negative")[label]), writer.sentence()
    link = f'<a href="https://example.org/?a=1&amp;b={number}" type="external">house</a>'
    text = f"<p>caf&#233; {first}</p> \n<p>{link} &amp;amp; {second}</p>"
    return {"text": text, "title": writer.sentence((), 3, 6), "hyperpartisan": bool(label),
            "url": "https://example.org/", "published_at": "2017-09-10"}  # fmt: skip


def _wiki_qa(writer: Writer, number: int) -> Row:
    label = int(number % 4 == 0)  # a minority, as in the real set, but enough to learn from
    return {"question_id": f"Q{number // 4}", "question": writer.sentence((), 3, 6),
            "document_title": writer.one(THINGS), "answer": writer.showing(str(label)),
            "label": label}  # fmt: skip


_IDX = pa.struct([(part, INT32) for part in ("paragraph", "question", "answer")])
_SPANS = {part: INT32 for part in ("start1", "start2", "end1", "end2")}
_PARSES = ("parse_premise", "parse_hypothesis", "binary_parse_premise",
           "binary_parse_hypothesis", "heuristic", "subcase", "template")  # fmt: skip
_TREES = ("binary_parse", "parse")
_BOOL = {"label": names(*BOOL)}
_TREC: Sample = (
    {"text": STRING, "coarse_label": names(*COARSE), "fine_label": names(*TREC_FINE.split())},
    _trec,
)
_ANLI: Sample = (
    {"uid": STRING, "premise": STRING, "hypothesis": STRING, "label": names(*NLI),
     "reason": STRING}, _anli,
)  # fmt: skip

SAMPLES: dict[str, Sample] = {
    "cola": _texts("sentence", None, ("unacceptable", "acceptable"), idx=True),
    "sst2": _texts("sentence", None, ("negative", "positive"), idx=True),
    "mrpc": _texts("sentence1", "sentence2", ("not_equivalent", "equivalent"), idx=True),
    "qqp": _texts("question1", "question2", ("not_duplicate", "duplicate"), idx=True),
    "stsb": (
        {"sentence1": STRING, "sentence2": STRING, "label": FLOAT, "idx": INT32}, _stsb,
    ),
    "mnli": _texts("premise", "hypothesis", NLI, idx=True),
    "qnli": _texts("question", "sentence", ("entailment", "not_entailment"), idx=True),
    "rte": _texts("sentence1", "sentence2", ("entailment", "not_entailment"), idx=True),
    "wnli": _texts("sentence1", "sentence2", ("not_entailment", "entailment"), idx=True),
    "boolq": ({"question": STRING, "passage": STRING, "idx": INT32} | _BOOL, _boolq),
    "cb": (
        {"premise": STRING, "hypothesis": STRING, "idx": INT32,
         "label": names("entailment", "contradiction", "neutral")}, _super_nli,
    ),
    "multirc": (
        {"paragraph": STRING, "question": STRING, "answer": STRING, "idx": _IDX} | _BOOL, _multirc,
    ),
    "wic": (
        {"word": STRING, "sentence1": STRING, "sentence2": STRING} | _SPANS | {"idx": INT32}
        | _BOOL, _wic,
    ),
    "wsc": (
        {"text": STRING, "span1_index": INT32, "span2_index": INT32, "span1_text": STRING,
         "span2_text": STRING, "idx": INT32} | _BOOL, _wsc,
    ),
    "snli": _texts("premise", "hypothesis", NLI, unlabelled=40),
    "hans": (
        {"premise": STRING, "hypothesis": STRING, "label": names("entailment", "non-entailment")}
        | dict.fromkeys(_PARSES, STRING), _hans,
    ),
    "rotten_tomatoes": _texts("text", None, ("neg", "pos")),
    "imdb": _texts("text", None, ("neg", "pos")),
    "yelp_polarity": _texts("text", None, ("1", "2"), shown=("negative", "positive")),
    "ag_news": _texts("text", None, ("World", "Sports", "Business", "Sci/Tech")),
    "multinli": (
        {"promptID": INT32}
        | dict.fromkeys(("pairID", "premise", "premise_binary_parse", "premise_parse", "hypothesis",
                         "hypothesis_binary_parse", "hypothesis_parse", "genre"), STRING)
        | {"label": names(*NLI)}, _multinli,
    ),
    "scitail": (dict.fromkeys(("premise", "hypothesis", "label"), STRING), _scitail),
    "eraser_multirc": (
        {"passage": STRING, "query_and_answer": STRING} | _BOOL | {"evidences": STRINGS},
        _eraser_multirc,
    ),
    "trec_coarse": _TREC,
    "trec_fine": _TREC,
    "anli_r1": _ANLI,
    "anli_r2": _ANLI,
    "anli_r3": _ANLI,
    "hyperpartisan": (
        {"text": STRING, "title": STRING, "hyperpartisan": pa.bool_(), "url": STRING,
         "published_at": STRING}, _hyperpartisan,
    ),
    "emotion": _texts(
        "text", None, ("sadness", "joy", "love", "anger", "fear", "surprise"),
        shown=("negative", "positive", "acceptable", "unacceptable", "contradiction", "neutral"),
    ),
    "wiki_qa": (
        {"question_id": STRING, "question": STRING, "document_title": STRING, "answer": STRING,
         "label": names("0", "1")}, _wiki_qa,
    ),
}  # fmt: skip
