"""Golden rows of the commonsense tasks."""

from __future__ import annotations

COPA = {"premise": "It fell.", "choice1": "A", "choice2": "B", "question": "cause"}
OPTIONS = "a ) 24 , b ) rs . 1 , 000 , c ) 3 ( a + b ) , d ) 5 ' , e ) none"
LISTED = "['a ) 8', 'b ) 1 , 5', \"c ) 6 '\", 'd ) 4', 'e ) 6']"
SCIQ = {"distractor1": "x", "distractor2": "y", "distractor3": "z", "correct_answer": "gold"}
SWAG = {"video-id": "v", "sent1": "He ran.", "ending0": "sat.", "ending1": "ran.",
        "ending2": "ate.", "ending3": "won."}  # fmt: skip


def keyed(question: str, labels: str, key: str, label: int | str) -> tuple:
    """A row whose key stands among its own labels: ``"ABCD"``, ``"1234"``."""
    texts = [f"text {letter}" for letter in labels]
    raw = {"id": "x", question: "Q 24?", "answerKey": key,
           "choices": {"text": texts, "label": list(labels)}}  # fmt: skip
    row = {"id": "x", "text": "", "query": "Q 24?", "choices": texts, "label": label}
    return raw, label if isinstance(label, str) else row


ARC = [
    keyed("question", "ABCD", "D", 3),
    keyed("question", "1234", "2", 1),
    keyed("question", "ABC", "A", 0),
    keyed("question", "ABCDE", "E", 4),
    keyed("question", "1234", "B", -2),
    keyed("question", "ABCD", "", "unlabelled"),
]
RACE = [
    (dict(example_id="high1.txt", article="T", question="Q _", options=list("wxyz"), answer="C"),
     dict(text="T", query="Q _", choices=list("wxyz"), label=2)),
    (dict(example_id="high1.txt", article="", question="Q", options=list("wxyz"), answer="A"),
     dict(text="", query="Q", choices=list("wxyz"), label=0)),
    (dict(example_id="high1.txt", article="T", question="Q", options=list("wxyz"), answer=""),
     "unlabelled"),
]  # fmt: skip


def mathqa(problem: str, options: str, correct: str, choices: list[str], label: int) -> tuple:
    raw = {"Problem": problem, "Rationale": f"it is {correct}", "options": options}
    row = {"text": "", "query": problem, "choices": choices, "label": label}
    return raw | {"correct": correct}, row


def hellaswag(ctx: str, endings: list[str], label: str, row: dict | str) -> tuple:
    return {"ind": 1, "ctx": ctx, "endings": endings, "label": label}, row


GOLDEN = {
    "copa": [
        (COPA | dict(label=1), dict(text="It fell.", query="What was the cause of this?",
                                    choices=["A", "B"], label=1)),
        (COPA | dict(question="effect", label=0),
         dict(text="It fell.", query="What happened as a result?", choices=["A", "B"], label=0)),
        (COPA | dict(label=-1), "unlabelled"),
    ],
    "openbookqa": [
        keyed("question_stem", "ABCD", "A", 0),
        keyed("question_stem", "ABCD", "D", 3),
        keyed("question_stem", "ABCD", "E", -2),
    ],
    "commonsense_qa": [
        keyed("question", "ABCDE", "E", 4),
        keyed("question", "ABCDE", "B", 1),
        keyed("question", "ABCDE", "", "unlabelled"),
    ],
    "cosmos_qa": [
        (dict(id="i", context="C", question="Q", answer0="a", answer1="b", answer2="c",
              answer3="None of the above choices .", label=3),
         dict(id="i", text="C", query="Q", label=3,
              choices=["a", "b", "c", "None of the above choices ."])),
        (dict(id="i", context="C", question="Q", answer0="a", answer1="b", answer2="c",
              answer3="d", label=-1), "unlabelled"),
    ],
    # Keys are letters or numbers, of three to five candidates.
    "arc_easy": ARC,
    "arc_challenge": ARC,
    "race_high": RACE,
    "race_middle": RACE,
    "swag": [
        (SWAG | dict(sent2="She", label=3),
         dict(text="He ran.", choices=["She sat.", "She ran.", "She ate.", "She won."], label=3)),
        (SWAG | dict(sent2="", label=0),
         dict(text="He ran.", choices=["sat.", "ran.", "ate.", "won."], label=0)),
    ],
    # Labels are strings, empty where they are hidden.
    "hellaswag": [
        hellaswag("[header] Cook [title] Boil", ["[step] a", "b", "c", "d"], "3",
                  dict(text="Cook. Boil", choices=["a", "b", "c", "d"], label=3)),
        hellaswag("A man sits. he", ["a", "b", "c", "d"], "0",
                  dict(text="A man sits. he", choices=["a", "b", "c", "d"], label=0)),
        hellaswag("A", ["a", "b", "c", "d"], "", "unlabelled"),
        hellaswag("A", ["a", "b"], "7", dict(text="A", choices=["a", "b"], label=-2)),
    ],
    # Five options in one string, with commas and "b )" inside, or as the text of a Python list.
    "mathqa": [
        mathqa("how many a ) ?", OPTIONS, "e",
               ["24", "rs . 1 , 000", "3 ( a + b )", "5 '", "none"], 4),
        mathqa("x", LISTED, "b", ["8", "1 , 5", "6 '", "4", "6"], 1),
        mathqa("x", "24 or 25", "a", [], 0),
    ],
    # The place of the answer is drawn from the row's text.
    "sciq": [
        (SCIQ | dict(question="Q0", support="S"),
         dict(text="S", query="Q0", choices=["x", "gold", "y", "z"], label=1)),
        (SCIQ | dict(question="Q3", support=""),
         dict(text="", query="Q3", choices=["x", "y", "z", "gold"], label=3)),
        (SCIQ | dict(question="Q10"),
         dict(text="", query="Q10", choices=["gold", "x", "y", "z"], label=0)),
    ],
}  # fmt: skip
