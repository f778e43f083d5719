"""Raw rows of the summarization tasks: the summary names the topic that the document repeats."""

from __future__ import annotations

from muppet_dag.samples.lexicon import TOPICS
from muppet_dag.samples.schema import STRING, Row, Sample
from muppet_dag.samples.writer import Writer

_WORDS = [word for topic in ("World", "Sports", "Business", "Sci/Tech") for word in TOPICS[topic]]


def _documents(document: str, summary: str, *, id: bool = True, ending: str = "") -> Sample:
    """Documents with a summary; ``ending`` follows the summary outside of training."""
    columns = dict.fromkeys((document, summary) + ("id",) * id, STRING)

    def row(writer: Writer, number: int) -> Row:
        topic = writer.one(_WORDS)
        text = writer.sentence([topic] * 4, 14, 26)
        said = f"report on {topic}" + (ending if writer.split != "train" else "")
        made = {document: text, summary: said}
        return made | ({"id": writer.id(number)} if id else {})

    return columns, row


SAMPLES: dict[str, Sample] = {
    "cnn_dailymail": _documents("article", "highlights"),
    "xsum": _documents("document", "summary"),
    "aeslc": _documents("email_body", "subject_line", id=False, ending="\n"),
}
