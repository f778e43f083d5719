"""Golden rows of the summarization tasks."""

from __future__ import annotations

GOLDEN = {
    "cnn_dailymail": [
        (dict(id="a1", article="(CNN) Zoë ran.", highlights="Zoë ran .\nShe won ."),
         dict(id="a1", text="(CNN) Zoë ran.", target="Zoë ran .\nShe won .")),
        (dict(id="a2", article="", highlights="H"), "empty text"),
    ],
    "xsum": [
        (dict(id="007", document="D\nd", summary="S."), dict(id="007", text="D\nd", target="S.")),
        (dict(id="8", document=" \n", summary="S."), "empty text"),
    ],
    "aeslc": [
        (dict(email_body="Hi,\nall", subject_line="Re: lunch\n"),
         dict(text="Hi,\nall", target="Re: lunch")),
        (dict(email_body="Hi", subject_line="24"), dict(text="Hi", target="24")),
        (dict(email_body="Hi", subject_line="\n"), "unlabelled"),
    ],
    "billsum": [
        (dict(text="SEC. 1.\n\nA bill.", summary="It is.", title="An Act"),
         dict(text="SEC. 1.\n\nA bill.", target="It is.")),
        (dict(text="A bill.", summary="", title="An Act"), "unlabelled"),
    ],
    # Articles stay parted; a document may hold nothing but the marks.
    "multi_news": [
        (dict(document="One. ||||| Two.", summary="– Both."),
         dict(text="One. ||||| Two.", target="– Both.")),
        (dict(document=" \n ||||| \n", summary="– None."), "empty document"),
    ],
    "gigaword": [
        (dict(document="oil rose ##.# percent to UNK", summary="oil rises"),
         dict(text="oil rose ##.# percent to UNK", target="oil rises")),
        (dict(document="oil rose", summary=""), "unlabelled"),
    ],
    # In TIFU-short tldr is empty, and such rows of TIFU-long have no summary either.
    "reddit_tifu": [
        (dict(ups=1.0, documents="\n\nthis was i\n", tldr=" i did it. ", title="it"),
         dict(text="this was i", target="i did it.")),
        (dict(ups=1.0, documents="this was i", tldr="", title="it"), "unlabelled"),
        (dict(ups=1.0, documents="\n", tldr="i did it.", title="it"), "empty text"),
    ],
    "samsum": [
        (dict(id="1", dialogue="Ann: Hi\r\nBo: 🦊 Hi", summary="They greet."),
         dict(id="1", text="Ann: Hi\nBo: 🦊 Hi", target="They greet.")),
        (dict(id="2", dialogue="Ann: Hi\nBo: Hi", summary="They greet."),
         dict(id="2", text="Ann: Hi\nBo: Hi", target="They greet.")),
        (dict(id="3", dialogue="", summary="A."), "empty text"),
    ],
}  # fmt: skip
