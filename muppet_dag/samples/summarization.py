"""Raw rows of the summarization tasks: the summary names the topic that the document repeats."""

from __future__ import annotations

from muppet_dag.samples.lexicon import TOPICS
from muppet_dag.samples.schema import FLOAT, STRING, Row, Sample
from muppet_dag.samples.writer import Writer

_WORDS = [word for topic in ("World", "Sports", "Business", "Sci/Tech") for word in TOPICS[topic]]


def _documents(
    document: str, summary: str, *, id: bool = True, ending: str = "", join: str = " "
) -> Sample:
    """Documents with a summary; ``ending`` follows the summary outside of training.

    A document is two sentences with ``join`` between them.
    """
    columns = dict.fromkeys((document, summary) + ("id",) * id, STRING)

    def row(writer: Writer, number: int) -> Row:
        topic = writer.one(_WORDS)
        text = join.join(writer.sentence([topic] * 2, 7, 13) for _ in range(2))
        summarized = f"report on {topic}" + (ending if writer.split != "train" else "")
        columns = {document: text, summary: summarized}
        return columns | ({"id": writer.id(number)} if id else {})

    return columns, row


def _billsum() -> Sample:
    columns, row = _documents("text", "summary", id=False)
    return {**columns, "title": STRING}, lambda w, n: row(w, n) | {"title": w.sentence((), 3, 6)}


def _reddit_tifu() -> Sample:
    columns, row = _documents("documents", "tldr", id=False)
    votes = ("ups", "num_comments", "upvote_ratio", "score")

    def post(writer: Writer, number: int) -> Row:
        raw = row(writer, number)
        raw["documents"] = "\n" * (number % 3) + raw["documents"]
        return dict.fromkeys(votes, 1.0) | raw | {"title": writer.sentence((), 3, 6)}

    return {**dict.fromkeys(votes, FLOAT), **columns, "title": STRING}, post


def _samsum() -> Sample:
    columns, row = _documents("dialogue", "summary", join="\r\n")

    def chat(writer: Writer, number: int) -> Row:
        raw = row(writer, number)
        if number % 40 == 39:
            raw["dialogue"] = ""  # one in the real set
        return raw

    return {"id": STRING, **columns}, chat


SAMPLES: dict[str, Sample] = {
    "cnn_dailymail": _documents("article", "highlights"),
    "xsum": _documents("document", "summary"),
    "aeslc": _documents("email_body", "subject_line", id=False, ending="\n"),
    "billsum": _billsum(),
    "multi_news": _documents("document", "summary", id=False, join=" ||||| "),
    "gigaword": _documents("document", "summary", id=False, join=" # "),
    "reddit_tifu": _reddit_tifu(),
    "samsum": _samsum(),
}
