"""Summarization: generation with the encoder-decoder's own output layer."""

from __future__ import annotations

from muppet_dag.catalogue.sql import blank, strip
from muppet_dag.catalogue.task import CONVERTED, hub, summarization

#: For summaries of several sentences; the default, rougeL, is for those of one.
SENTENCES = ("rouge1", "rouge2", "rougeLsum")

cnn_dailymail = summarization(
    hub("abisee/cnn_dailymail", "3.0.0", test="test"), id="id",
    text="article", target="highlights", metrics=SENTENCES,
    rows={"train": 287113, "validation": 13368, "test": 11490},
    licence="apache-2.0", citation="See et al. 2017",
)  # fmt: skip

xsum = summarization(
    hub("EdinburghNLP/xsum", revision=CONVERTED, test="test"), id="id",
    text="document", target="summary",
    rows={"train": 204045, "validation": 11332, "test": 11334}, citation="Narayan et al. 2018",
)  # fmt: skip

aeslc = summarization(
    hub("Yale-LILY/aeslc", test="test"),
    text="email_body", target=strip("subject_line"),
    rows={"train": 14436, "validation": 1960, "test": 1906}, citation="Zhang and Tetreault 2019",
)  # fmt: skip

billsum = summarization(
    hub("FiscalNote/billsum", train="train[5%:]", validation="train[:5%]", test="test"),
    text="text", target="summary", metrics=SENTENCES,
    rows={"train": 18949, "test": 3269},
    licence="cc0-1.0", citation="Kornilova and Eidelman 2019",
    about="bills of the US Congress; the split ca_test (California) is not used",
)  # fmt: skip

multi_news = summarization(
    hub("alexfabbri/multi_news", revision=CONVERTED, test="test"),
    text="document", target="summary", metrics=SENTENCES,
    drop={"empty document": blank("replace(document, '|', ' ')")},
    rows={"train": 44972, "validation": 5622, "test": 5622},
    licence="other", citation="Fabbri et al. 2019",
    about="||||| parts the articles of a document, as on the Hub",
)  # fmt: skip

gigaword = summarization(
    hub("Harvard/gigaword", revision=CONVERTED, test="test"),
    text="document", target="summary",
    rows={"train": 3803957, "validation": 189651, "test": 1951},
    licence="mit", citation="Rush et al. 2015; Graff et al. 2003",
    about="first sentence to headline: in lower case, with # for digits and UNK for rare words",
)  # fmt: skip

reddit_tifu = summarization(
    hub("ctr4si/reddit_tifu", "long", revision=CONVERTED,
        train="train[20%:]", validation="train[:10%]", test="train[10%:20%]"),
    text=strip("documents"), target=strip("tldr"),
    rows={"train": 42139}, licence="mit", citation="Kim et al. 2019",
    about="TIFU-long, whose target is the TL;DR (in TIFU-short it is the title)",
)  # fmt: skip

# Turns are parted by CR LF in most rows and by LF in the others.
samsum = summarization(
    hub("Samsung/samsum", "samsum", revision=CONVERTED, test="test"), id="id",
    text="replace(dialogue, chr(13), '')", target="summary", metrics=SENTENCES,
    rows={"train": 14732, "validation": 818, "test": 819},
    licence="cc-by-nc-nd-4.0", citation="Gliwa et al. 2019",
)  # fmt: skip
