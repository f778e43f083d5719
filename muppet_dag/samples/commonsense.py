"""Raw rows of the commonsense tasks: the right candidate is sensible, the others are absurd."""

from __future__ import annotations

import pyarrow as pa

from muppet_dag.samples.schema import (
    INT32,
    STRING,
    STRINGS,
    Columns,
    Maker,
    Row,
    Sample,
    names,
)
from muppet_dag.samples.writer import Writer


def _question(writer: Writer) -> str:
    return f"What is true about it ? {writer.sentence((), 3, 6)}"


def _copa(writer: Writer, number: int) -> Row:
    label = number % 2
    choice1, choice2 = writer.candidates(label, 2)
    return {"premise": writer.sentence(), "choice1": choice1, "choice2": choice2,
            "question": ("cause", "effect")[number // 2 % 2], "idx": number,
            "label": label}  # fmt: skip


def _lettered(
    question: str, count: int, before: str = "", after: str = "", *,
    text_first: bool = True, numeric: bool = False,
) -> Sample:  # fmt: skip
    """Candidates in two parallel lists, the key among the labels.

    ``before`` and ``after`` name further columns on either side of the candidates.
    """
    order = ("text", "label") if text_first else ("label", "text")
    columns: Columns = dict.fromkeys(("id", question, *before.split()), STRING) | {
        "choices": pa.struct([(name, STRINGS) for name in order]), "answerKey": STRING,
        **dict.fromkeys(after.split(), STRING),
    }  # fmt: skip
    more = f"{before} {after}".split()

    def row(writer: Writer, number: int) -> Row:
        keys = _keys(number, count, numeric=numeric)
        label = number % len(keys)
        choices = {"text": writer.candidates(label, len(keys)), "label": keys}
        return {"id": writer.id(number), question: _question(writer), "choices": choices,
                "answerKey": keys[label]} | dict.fromkeys(more, "house")  # fmt: skip

    return columns, row


def _keys(number: int, count: int, *, numeric: bool) -> list[str]:
    """A to H; where ``numeric``, ARC's variety: 1 to 4 in part of the rows, three candidates."""
    if numeric and number % 16 == 5:
        count = 3
    return list("12345" if numeric and number // 4 % 8 == 2 else "ABCDEFGH")[:count]


def _cosmos(writer: Writer, number: int) -> Row:
    label = number % 4
    answers = {f"answer{i}": text for i, text in enumerate(writer.candidates(label, 4))}
    return {"id": writer.id(number), "context": writer.sentence(), "question": _question(writer),
            **answers, "label": label}  # fmt: skip


def _race(writer: Writer, number: int) -> Row:
    label = number % 4
    return {"example_id": f"{writer.split}{number // 2}.txt",
            "article": writer.sentence((), 20, 30), "answer": "ABCD"[label],
            "question": _question(writer), "options": writer.candidates(label, 4)}  # fmt: skip


def _swag(writer: Writer, number: int) -> Row:
    label = number % 4
    sent1, sent2 = writer.sentence(), "then"
    endings = {f"ending{i}": text for i, text in enumerate(writer.candidates(label, 4))}
    return {"video-id": writer.id(number), "fold-ind": str(number), "gold-source": "gold",
            "startphrase": f"{sent1} {sent2}", "sent1": sent1, "sent2": sent2, **endings,
            "label": label}  # fmt: skip


def _hellaswag(writer: Writer, number: int) -> Row:
    label = number % 4
    ctx_a, ctx_b = writer.sentence(), "then"
    mark = "[header] " if number % 3 == 0 else ""
    return {"ind": number, "activity_label": "house", "ctx_a": ctx_a, "ctx_b": ctx_b,
            "ctx": f"{mark}{ctx_a} {ctx_b}", "endings": writer.candidates(label, 4),
            "source_id": writer.id(number), "split": writer.split, "split_type": "indomain",
            "label": "" if number % 40 == 39 else str(label)}  # fmt: skip


def _mathqa(writer: Writer, number: int) -> Row:
    label = number % 5
    texts = writer.candidates(label, 5)
    lettered = [f"{key} ) {text}" for key, text in zip("abcde", texts, strict=True)]
    # Some rows hold the text of a Python list, as in the real set.
    options = str(lettered) if number // 5 % 8 == 3 else " , ".join(lettered)
    return {"Problem": _question(writer), "Rationale": "", "options": options,
            "correct": "abcde"[label], "annotated_formula": "", "linear_formula": "",
            "category": "general"}  # fmt: skip


def _sciq(writer: Writer, number: int) -> Row:
    right, *wrong = writer.candidates(0, 4)
    return {"question": _question(writer), "distractor3": wrong[2], "distractor1": wrong[0],
            "distractor2": wrong[1], "correct_answer": right,
            "support": "" if number % 3 == 0 else writer.sentence()}  # fmt: skip


def _dream(writer: Writer, number: int) -> Row:
    label, choice = number % 3, writer.candidates(number % 3, 3)
    return {"id": number, "dialogue_id": f"4-{number}", "question": _question(writer),
            "dialogue": [f"{who} : {writer.sentence((), 4, 8)}" for who in ("a", "the", "a")],
            "choice": choice, "answer": choice[label]}  # fmt: skip


def _piqa(writer: Writer, number: int) -> Row:
    label = number % 2
    sol1, sol2 = writer.candidates(label, 2)
    return {"goal": _question(writer), "sol1": sol1, "sol2": sol2, "label": label}


def _social(writer: Writer, number: int) -> Row:
    label = number % 3
    answers = zip("ABC", writer.candidates(label, 3), strict=True)
    return {"context": writer.sentence(), "question": _question(writer), "label": str(label + 1),
            **{f"answer{letter}": text for letter, text in answers}}  # fmt: skip


def _winogrande(writer: Writer, number: int) -> Row:
    option1, option2 = writer.candidates(number % 2, 2)
    sentence = f"{writer.sentence((), 4, 8)[:-2]} _ {writer.sentence((), 2, 4)}"
    return {"sentence": sentence, "option1": option1, "option2": option2,
            "answer": "12"[number % 2]}  # fmt: skip


def _strings(line: str, maker: Maker, **more: object) -> Sample:
    """Columns that are strings, but for those named by keyword."""
    return {name: more.get(name, STRING) for name in line.split()}, maker


_ARC = _lettered("question", 4, numeric=True)
_RACE = _strings("example_id article answer question options", _race, options=STRINGS)

SAMPLES: dict[str, Sample] = {
    "copa": _strings("premise choice1 choice2 question idx label", _copa,
                     idx=INT32, label=names("choice1", "choice2")),
    "openbookqa": _lettered("question_stem", 4),
    "commonsense_qa": _lettered("question", 5, "question_concept", text_first=False),
    "cosmos_qa": _strings("id context question answer0 answer1 answer2 answer3 label", _cosmos,
                          label=INT32),
    "arc_easy": _ARC,
    "arc_challenge": _ARC,
    "race_high": _RACE,
    "race_middle": _RACE,
    "swag": _strings("video-id fold-ind startphrase sent1 sent2 gold-source ending0 ending1 "
                     "ending2 ending3 label", _swag, label=names("0", "1", "2", "3")),
    "hellaswag": _strings("ind activity_label ctx_a ctx_b ctx endings source_id split split_type "
                          "label", _hellaswag, ind=INT32, endings=STRINGS),
    "mathqa": _strings("Problem Rationale options correct annotated_formula linear_formula "
                       "category", _mathqa),
    "sciq": _strings("question distractor3 distractor1 distractor2 correct_answer support", _sciq),
    "dream": _strings("id dialogue_id dialogue question choice answer", _dream,
                      id=INT32, dialogue=STRINGS, choice=STRINGS),
    "qasc": _lettered("question", 8, after="fact1 fact2 combinedfact formatted_question"),
    "piqa": _strings("goal sol1 sol2 label", _piqa, label=names("0", "1")),
    "social_i_qa": _strings("context question answerA answerB answerC label", _social),
    "winogrande": _strings("sentence option1 option2 answer", _winogrande),
}  # fmt: skip
