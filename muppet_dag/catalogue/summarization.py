"""Summarization: generation with the encoder-decoder's own output layer."""

from __future__ import annotations

from muppet_dag.catalogue.sql import strip
from muppet_dag.catalogue.task import CONVERTED, hub, summarization

cnn_dailymail = summarization(
    hub("abisee/cnn_dailymail", "3.0.0", test="test"), id="id",
    text="article", target="highlights",
    rows={"train": 287113, "validation": 13368, "test": 11490},
    licence="apache-2.0", citation="See et al. 2017",
)  # fmt: skip

xsum = summarization(
    hub("EdinburghNLP/xsum", revision=CONVERTED, test="test"), id="id",
    text="document", target="summary",
    drop={"empty document": f"{strip('document')} = ''"},
    rows={"train": 204045, "validation": 11332, "test": 11334}, citation="Narayan et al. 2018",
)  # fmt: skip

# Subject lines end with a line break in part of the splits.
aeslc = summarization(
    hub("Yale-LILY/aeslc", test="test"),
    text="email_body", target=strip("subject_line"),
    rows={"train": 14436, "validation": 1960, "test": 1906}, citation="Zhang and Tetreault 2019",
)  # fmt: skip
