"""Golden rows of the classification tasks."""

from __future__ import annotations


def pairs(first: str, second: str, *labels: int) -> list:
    """Rows of a task that keeps two texts and a label as they are, and one without a label."""
    texts = [("Zoë sat.", " A cat sat. "), ("Is it 24?", "124 * 2 = 248"), ("東京", "Tōkyō")]
    rows = [
        ({first: a, second: b, "label": label}, {"text": a, "query": b, "label": label})
        for (a, b), label in zip(texts, labels, strict=False)
    ]
    return [*rows, ({first: "A", second: "B", "label": -1}, "unlabelled")]


def wsc(text: str, noun: tuple[int, str], pronoun: tuple[int, str], marked: str) -> tuple:
    raw = {"text": text, "span1_index": noun[0], "span1_text": noun[1],
           "span2_index": pronoun[0], "span2_text": pronoun[1], "label": 1}  # fmt: skip
    return raw, {"text": marked, "label": 1}


WIC = {"word": "go", "sentence1": "Zoë, go!", "start1": 5, "end1": 7,
       "sentence2": "She went out", "start2": 4, "end2": 8, "idx": 0}  # fmt: skip
MULTIRC = {"paragraph": "P", "question": "Q?", "answer": "A",
           "idx": {"paragraph": 1, "question": 20, "answer": 3}}  # fmt: skip
GOLDEN = {
    "cola": [
        (dict(sentence="It sat.", label=1, idx=0), dict(text="It sat.", label=1)),
        (dict(sentence="Sat it * it.", label=0, idx=1), dict(text="Sat it * it.", label=0)),
        (dict(sentence="Hidden.", label=-1, idx=2), "unlabelled"),
    ],
    # Phrases end with a blank.
    "sst2": [
        (dict(sentence="a witty ride ", label=1, idx=0), dict(text="a witty ride", label=1)),
        (dict(sentence="dull", label=0, idx=1), dict(text="dull", label=0)),
        (dict(sentence=" ", label=0, idx=2), "empty text"),
    ],
    "mrpc": pairs("sentence1", "sentence2", 1, 0),
    "qqp": pairs("question1", "question2", 0, 1),
    # A number: no class, and no -1 for what is hidden.
    "stsb": [
        (dict(sentence1="A", sentence2="B", label=2.5), dict(text="A", query="B", score=2.5)),
        (dict(sentence1="A", sentence2="A", label=5.0), dict(text="A", query="A", score=5.0)),
        (dict(sentence1="A", sentence2="B"), "unlabelled"),
    ],
    # The same two labels mean the opposite in RTE and WNLI; 1 and 2 change places in CB.
    "mnli": pairs("premise", "hypothesis", 0, 1, 2),
    "multinli": [
        (raw | {"pairID": "31193n", "genre": "fiction"}, row if row == "unlabelled" else
         {"id": "31193n"} | row) for raw, row in pairs("premise", "hypothesis", 0, 1, 2)
    ],
    "qnli": pairs("sentence", "question", 0, 1),
    "rte": pairs("sentence1", "sentence2", 0, 1),
    "wnli": pairs("sentence1", "sentence2", 0, 1),
    "cb": pairs("premise", "hypothesis", 0, 1, 2),
    "snli": pairs("premise", "hypothesis", 0, 1, 2),
    "hans": pairs("premise", "hypothesis", 0, 1),
    "boolq": [
        (dict(question="is it", passage="It is.", idx=3, label=1),
         dict(text="It is.", query="is it", label=1)),
        (dict(question="was it", passage="It is.", idx=4, label=0),
         dict(text="It is.", query="was it", label=0)),
        (dict(question="is it", passage="", idx=5, label=0), "empty text"),
    ],
    "multirc": [
        (MULTIRC | dict(label=0), dict(id="1-20-3", text="P", query="Q? A", label=0)),
        (MULTIRC | dict(answer="24", label=1), dict(id="1-20-3", text="P", query="Q? 24", label=1)),
        (MULTIRC | dict(label=-1), "unlabelled"),
    ],
    "eraser_multirc": [
        (dict(passage="It sat .", query_and_answer="Who sat ? || The cat", label=1,
              evidences=["It sat ."]),
         dict(text="It sat .", query="Who sat ? The cat", label=1)),
        (dict(passage="It sat .", query_and_answer="Who ran ? || ", label=0, evidences=[]),
         dict(text="It sat .", query="Who ran ?", label=0)),
        (dict(passage="P", query_and_answer="a || b || c", label=0, evidences=[]),
         dict(text="P", query="a b || c", label=0)),
    ],
    # Offsets count characters, and the word may be inflected or stand twice.
    "wic": [
        (WIC | dict(label=1), dict(text="Zoë, *go*!", query="She *went* out", label=1)),
        (dict(word="bank", sentence1="bank to bank", start1=8, end1=12,
              sentence2="🦊 bank", start2=2, end2=6, label=0),
         dict(text="bank to *bank*", query="🦊 *bank*", label=0)),
        (WIC | dict(label=-1), "unlabelled"),
    ],
    # Spans come in either order, may lie in each other, and exclude punctuation.
    "wsc": [
        wsc("The old cat, it slept.", (0, "The old cat"), (3, "it"), "*The old cat*, _it_ slept."),
        wsc("Pat her dog , Ann left", (4, "Ann"), (1, "her"), "Pat _her_ dog , *Ann* left"),
        wsc("So their mums ran", (1, "their mums"), (1, "their"), "So *_their_ mums* ran"),
    ],
    # Labels are strings; an unknown one lies outside the range, so that it is refused.
    "scitail": [
        (dict(premise="P", hypothesis="H", label="entails"), dict(text="P", query="H", label=0)),
        (dict(premise="P", hypothesis="H", label="neutral"), dict(text="P", query="H", label=1)),
        (dict(premise="P", hypothesis="H", label=""), "unlabelled"),
        (dict(premise="P", hypothesis="H", label="-"), dict(text="P", query="H")),
    ],
    "rotten_tomatoes": [
        (dict(text="a witty ride \n", label=1), dict(text="a witty ride", label=1)),
        (dict(text="dull .", label=0), dict(text="dull .", label=0)),
    ],
    "imdb": [
        (dict(text="Good.<br /><br />1 < 2", label=1), dict(text="Good.  1 < 2", label=1)),
        (dict(text="Unsupervised", label=-1), "unlabelled"),
    ],
    "yelp_polarity": [
        (dict(text=r"Good.\n\n\"Yes\"", label=1), dict(text='Good.  "Yes"', label=1)),
        (dict(text=r"C:\dir", label=0), dict(text=r"C:\dir", label=0)),
    ],
    "ag_news": [
        (dict(text=r"Oil rises\to $24", label=2), dict(text="Oil rises to $24", label=2)),
        (dict(text="Zoë wins", label=1), dict(text="Zoë wins", label=1)),
    ],
    "trec_coarse": [
        (dict(text="Who sat ?", coarse_label=3, fine_label=29), dict(text="Who sat ?", label=3)),
        (dict(text="Why ?", coarse_label=2, fine_label=27), dict(text="Why ?", label=2)),
    ],
    "trec_fine": [
        (dict(text="Who sat ?", coarse_label=3, fine_label=29), dict(text="Who sat ?", label=29)),
        (dict(text="How big ?", coarse_label=5, fine_label=49), dict(text="How big ?", label=49)),
    ],
    "wiki_qa": [
        (dict(question_id="Q1", question="how", document_title="T", answer="So.", label=1),
         dict(text="So.", query="how", label=1)),
        (dict(question_id="Q1", question="how", document_title="T", answer="No.", label=0),
         dict(text="No.", query="how", label=0)),
    ],
}  # fmt: skip
