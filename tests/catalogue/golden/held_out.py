"""Golden rows of the tasks that are for evaluation only."""

from __future__ import annotations

ANLI = [
    (dict(uid="u1", premise="Zoë sat.", hypothesis="She sat.", label=0, reason="so"),
     dict(id="u1", text="Zoë sat.", query="She sat.", label=0)),
    (dict(uid="u2", premise="P", hypothesis="H", label=1, reason=""),
     dict(id="u2", text="P", query="H", label=1)),
    (dict(uid="u3", premise="P", hypothesis="H", label=2, reason=""),
     dict(id="u3", text="P", query="H", label=2)),
]  # fmt: skip
PAGE = '<p>Let&#8217;s <a href="http://x.org/?a=1&amp;b=2" type="external">go</a></p> \n<p>now.</p>'
DREAM = {"id": 1, "dialogue_id": "4-1", "dialogue": ["M: Hi.", "W: It is 24."],
         "question": "What is it?", "choice": ["124", "24", "Zoë"]}  # fmt: skip
QASC = {"id": "q", "question": "Q?", "fact1": "A gives B", "formatted_question": "Q? (A) 0",
        "choices": {"text": list("01234567"), "label": list("ABCDEFGH")}}  # fmt: skip
PIQA = {"goal": "bat", "sol1": "hit it ", "sol2": "eat it"}
SOCIAL = {"context": "C", "question": "Q?", "answerA": "a", "answerB": "b", "answerC": "c"}
FILLED = ["Ann met Bo, so Ann ran.", "Ann met Bo, so Bo ran."]
WINOGRANDE = {"sentence": "Ann met Bo, so _ ran.", "option1": "Ann", "option2": "Bo"}
GOLDEN = {
    "anli_r1": ANLI,
    "anli_r2": ANLI,
    "anli_r3": ANLI,
    # Text is HTML, some of it escaped twice; labels are booleans.
    "hyperpartisan": [
        (dict(text=PAGE, title="T", hyperpartisan=True), dict(text="Let’s go now.", label=1)),
        (dict(text="<p>S&amp;amp;P 500 &lt; 1 &#128148;&#9999999;</p><p>x</p>", title="T",
              hyperpartisan=False), dict(text="S&P 500 < 1 💔&#9999999; x", label=0)),
        (dict(text="<p></p>", title="T", hyperpartisan=False), "empty text"),
    ],
    "emotion": [
        (dict(text="i feel well", label=1), dict(text="i feel well", label=1)),
        (dict(text="i feel odd", label=5), dict(text="i feel odd", label=5)),
    ],
    # The answer is a text.
    "dream": [
        (DREAM | dict(answer="24"), dict(text="M: Hi.\nW: It is 24.", query="What is it?",
                                         choices=["124", "24", "Zoë"], label=1)),
        (DREAM | dict(answer="Zoë"), dict(text="M: Hi.\nW: It is 24.", query="What is it?",
                                          choices=["124", "24", "Zoë"], label=2)),
        (DREAM | dict(answer="4"), dict(text="M: Hi.\nW: It is 24.", query="What is it?",
                                        choices=["124", "24", "Zoë"], label=-2)),
    ],
    "qasc": [
        (QASC | dict(answerKey="H"),
         dict(id="q", text="", query="Q?", choices=list("01234567"), label=7)),
        (QASC | dict(answerKey=""), "unlabelled"),
    ],
    "piqa": [
        (PIQA | dict(label=1), dict(text="", query="bat", choices=["hit it ", "eat it"], label=1)),
        (PIQA | dict(goal="", label=0),
         dict(text="", query="", choices=["hit it ", "eat it"], label=0)),
        (PIQA | dict(label=-1), "unlabelled"),
    ],
    # Labels are strings and count from 1.
    "social_i_qa": [
        (SOCIAL | dict(label="1"), dict(text="C", query="Q?", choices=["a", "b", "c"], label=0)),
        (SOCIAL | dict(label="3"), dict(text="C", query="Q?", choices=["a", "b", "c"], label=2)),
        (SOCIAL | dict(label="0"), dict(text="C", query="Q?", choices=["a", "b", "c"], label=-2)),
    ],
    "winogrande": [
        (WINOGRANDE | dict(answer="2"), dict(text="", choices=FILLED, label=1)),
        (WINOGRANDE | dict(answer="1"), dict(text="", choices=FILLED, label=0)),
        (WINOGRANDE | dict(answer=""), "unlabelled"),
    ],
}  # fmt: skip
