"""Classification: GLUE, SuperGLUE and friends. One head per task.

The order of ``classes`` is the raw label order: it differs between look-alikes (MNLI and CB, RTE
and WNLI). Test splits whose labels are hidden (-1) are not named.
"""

from __future__ import annotations

from muppet_dag.catalogue.sql import mark, strip
from muppet_dag.catalogue.task import CONVERTED, classification, hub

GLUE, SUPER_GLUE = "nyu-mll/glue", "aps/super_glue"
NLI = ("entailment", "neutral", "contradiction")
SENTIMENT = ("negative", "positive")


# --- GLUE -----------------------------------------------------------------------------------------

cola = classification(
    hub(GLUE, "cola"),
    text="sentence", label="label", classes=("unacceptable", "acceptable"),
    metrics=("matthews",), rows={"train": 8551, "validation": 1043},
    licence="cc-by-4.0", citation="Warstadt et al. 2019",
)  # fmt: skip

sst2 = classification(
    hub(GLUE, "sst2"),
    text=strip("sentence"), label="label", classes=SENTIMENT,
    rows={"train": 67349, "validation": 872},
    licence="cc-by-4.0", citation="Socher et al. 2013",
)  # fmt: skip

mrpc = classification(
    hub(GLUE, "mrpc", test="test"),
    text="sentence1", query="sentence2", label="label", classes=("not_equivalent", "equivalent"),
    metrics=("accuracy", "f1"), rows={"train": 3668, "validation": 408, "test": 1725},
    licence="cc-by-4.0", citation="Dolan and Brockett 2005",
    about="the only task of GLUE whose test labels are public",
)  # fmt: skip

qqp = classification(
    hub(GLUE, "qqp"),
    text="question1", query="question2", label="label", classes=("not_duplicate", "duplicate"),
    metrics=("accuracy", "f1"), rows={"train": 363846, "validation": 40430},
    licence="cc-by-4.0", citation="Iyer et al. 2017",
)  # fmt: skip

stsb = classification(
    hub(GLUE, "stsb"),
    text="sentence1", query="sentence2", score="label", score_range=(0.0, 5.0),
    metrics=("pearson", "spearman"), rows={"train": 5749, "validation": 1500},
    licence="cc-by-4.0", citation="Cer et al. 2017",
)  # fmt: skip

mnli = classification(
    hub(GLUE, "mnli", validation="validation_matched",
        validation_mismatched="validation_mismatched"),
    text="premise", query="hypothesis", label="label", classes=NLI,
    rows={"train": 392702, "validation_matched": 9815, "validation_mismatched": 9832},
    licence="cc-by-4.0", citation="Williams et al. 2018",
)  # fmt: skip

qnli = classification(
    hub(GLUE, "qnli"),
    text="sentence", query="question", label="label", classes=("entailment", "not_entailment"),
    rows={"train": 104743, "validation": 5463},
    licence="cc-by-4.0", citation="Rajpurkar et al. 2016; Wang et al. 2019",
)  # fmt: skip

rte = classification(
    hub(GLUE, "rte"),
    text="sentence1", query="sentence2", label="label", classes=("entailment", "not_entailment"),
    rows={"train": 2490, "validation": 277},
    licence="cc-by-4.0", citation="Dagan et al. 2005; Bentivogli et al. 2009",
    about="SuperGLUE's RTE holds the same rows, so it is no task of its own",
)  # fmt: skip

wnli = classification(
    hub(GLUE, "wnli"),
    text="sentence1", query="sentence2", label="label", classes=("not_entailment", "entailment"),
    rows={"train": 635, "validation": 71},
    licence="cc-by-4.0", citation="Levesque et al. 2012",
    about="validation repeats training sentences with the opposite label: below 50% is normal",
)  # fmt: skip


# --- SuperGLUE ------------------------------------------------------------------------------------

boolq = classification(
    hub(SUPER_GLUE, "boolq", revision=CONVERTED),
    text="passage", query="question", label="label", classes=("False", "True"),
    rows={"train": 9427, "validation": 3270}, citation="Clark et al. 2019",
)  # fmt: skip

cb = classification(
    hub(SUPER_GLUE, "cb", revision=CONVERTED),
    text="premise", query="hypothesis", label="label",
    classes=("entailment", "contradiction", "neutral"),
    metrics=("accuracy", "macro_f1"), rows={"train": 250, "validation": 56},
    citation="De Marneffe et al. 2019",
)  # fmt: skip

multirc = classification(
    hub(SUPER_GLUE, "multirc", revision=CONVERTED),
    id="concat_ws('-', idx.paragraph, idx.question, idx.answer)",
    text="paragraph", query="question || ' ' || answer", label="label", classes=("False", "True"),
    metrics=("f1", "question_exact_match"), rows={"train": 27243, "validation": 4848},
    citation="Khashabi et al. 2018",
    about="one row per answer; the id keeps the question, by which exact match groups",
)  # fmt: skip

# The word is marked by its offsets: it may be inflected, or stand twice in a sentence.
wic = classification(
    hub(SUPER_GLUE, "wic", revision=CONVERTED),
    text=mark("sentence1", "start1", "end1", "*"), query=mark("sentence2", "start2", "end2", "*"),
    label="label", classes=("False", "True"),
    rows={"train": 5428, "validation": 638}, citation="Pilehvar and Camacho-Collados 2019",
)  # fmt: skip


def _wsc_text() -> str:
    """The text with ``*`` around the noun's tokens and ``_`` around the pronoun's.

    Tokens are counted rather than characters: the raw spans may overlap, come in either order, or
    read differently from the text. Closing punctuation stays outside.
    """

    def sign(mark: str, span: str, last: bool) -> str:
        place = f"{span}_index + " + (f"len(string_split({span}_text, ' '))" if last else "1")
        return f"if(place = {place}, '{mark}', '')"

    word = "rtrim(token, '.,;:!?')"
    parts = (
        sign("*", "span1", False), sign("_", "span2", False), word,
        sign("_", "span2", True), sign("*", "span1", True), f"substr(token, length({word}) + 1)",
    )  # fmt: skip
    marked = f"lambda token, place: {' || '.join(parts)}"
    return f"array_to_string(list_transform(string_split(text, ' '), {marked}), ' ')"


wsc = classification(
    hub(SUPER_GLUE, "wsc.fixed", revision=CONVERTED),
    text=_wsc_text(), label="label", classes=("False", "True"),
    rows={"train": 554, "validation": 104}, citation="Levesque et al. 2012",
)  # fmt: skip


# --- More inference -------------------------------------------------------------------------------

snli = classification(
    hub("stanfordnlp/snli", "plain_text", test="test"),
    text="premise", query="hypothesis", label="label", classes=NLI,
    rows={"train": 550152, "validation": 10000, "test": 10000},
    licence="cc-by-4.0", citation="Bowman et al. 2015",
    about="rows on which the annotators did not agree carry -1 in every split and are dropped",
)  # fmt: skip

hans = classification(
    hub("jhu-cogsci/hans", "plain_text", revision=CONVERTED),
    text="premise", query="hypothesis", label="label", classes=("entailment", "non-entailment"),
    rows={"train": 30000, "validation": 30000}, citation="McCoy et al. 2019",
)  # fmt: skip

multinli = classification(
    hub("nyu-mll/multi_nli", validation="validation_matched",
        validation_mismatched="validation_mismatched"), id='"pairID"',
    text="premise", query="hypothesis", label="label", classes=NLI,
    rows={"train": 392702, "validation_matched": 9815, "validation_mismatched": 9832},
    licence="cc-by-3.0, cc-by-sa-3.0, mit, other", citation="Williams et al. 2018",
    about="the rows of MNLI as their authors publish them",
)  # fmt: skip

# tsv_format is the form without parses; its labels are plain strings.
scitail = classification(
    hub("allenai/scitail", "tsv_format", test="test"),
    text="premise", query="hypothesis", label="label", classes=("entails", "neutral"),
    rows={"train": 23097, "validation": 1304, "test": 2126}, citation="Khot et al. 2018",
    about="499 training rows fewer than snli_format, lost to quotes when the Hub's copy was made",
)  # fmt: skip

# "question || answer" in one string; the evidence sentences, which give the answer away, stay out.
eraser_multirc = classification(
    hub("CogComp/eraser_multi_rc", revision=CONVERTED, test="test"),
    text="passage", query=strip(r"regexp_replace(query_and_answer, '\s*\|\|\s*', ' ')"),
    label="label", classes=("False", "True"), metrics=("macro_f1", "accuracy"),
    rows={"train": 24029, "validation": 3214, "test": 4848},
    licence="other", citation="DeYoung et al. 2020; Khashabi et al. 2018",
    about="its test rows are the validation rows of MultiRC; the evidences are not used",
)  # fmt: skip


# --- Sentiment, topics, questions -----------------------------------------------------------------

rotten_tomatoes = classification(
    hub("cornell-movie-review-data/rotten_tomatoes", test="test"),
    text=strip("text"), label="label", classes=("neg", "pos"),
    rows={"train": 8530, "validation": 1066, "test": 1066}, citation="Pang and Lee 2005",
)  # fmt: skip

imdb = classification(
    hub("stanfordnlp/imdb", "plain_text",
        train="train[5%:]", validation="train[:5%]", test="test"),
    text="replace(text, '<br />', ' ')", label="label", classes=("neg", "pos"),
    rows={"train": 25000, "test": 25000}, licence="other", citation="Maas et al. 2011",
)  # fmt: skip

# The raw text spells line breaks as \n and quotes as \"; its class names are 1 and 2.
yelp_polarity = classification(
    hub("fancyzhx/yelp_polarity", "plain_text",
        train="train[5%:]", validation="train[:5%]", test="test"),
    text=r"""replace(replace(text, '\n', ' '), '\"', '"')""", label="label", classes=("1", "2"),
    rows={"train": 560000, "test": 38000}, citation="Zhang et al. 2015",
)  # fmt: skip

# A backslash stands for the line break of the newswire.
ag_news = classification(
    hub("fancyzhx/ag_news", train="train[5%:]", validation="train[:5%]", test="test"),
    text=r"replace(text, '\', ' ')", label="label",
    classes=("World", "Sports", "Business", "Sci/Tech"),
    rows={"train": 120000, "test": 7600}, citation="Zhang et al. 2015",
)  # fmt: skip

trec_coarse = classification(
    hub("CogComp/trec", revision=CONVERTED,
        train="train[5%:]", validation="train[:5%]", test="test"),
    text="text", label="coarse_label", classes=("ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"),
    rows={"train": 5452, "test": 500}, citation="Li and Roth 2002",
)  # fmt: skip

TREC_FINE = (
    "ABBR:abb ABBR:exp ENTY:animal ENTY:body ENTY:color ENTY:cremat ENTY:currency ENTY:dismed "
    "ENTY:event ENTY:food ENTY:instru ENTY:lang ENTY:letter ENTY:other ENTY:plant ENTY:product "
    "ENTY:religion ENTY:sport ENTY:substance ENTY:symbol ENTY:techmeth ENTY:termeq ENTY:veh "
    "ENTY:word DESC:def DESC:desc DESC:manner DESC:reason HUM:gr HUM:ind HUM:title HUM:desc "
    "LOC:city LOC:country LOC:mount LOC:other LOC:state NUM:code NUM:count NUM:date NUM:dist "
    "NUM:money NUM:ord NUM:other NUM:period NUM:perc NUM:speed NUM:temp NUM:volsize NUM:weight"
)

trec_fine = classification(
    hub("CogComp/trec", revision=CONVERTED,
        train="train[5%:]", validation="train[:5%]", test="test"),
    text="text", label="fine_label", classes=tuple(TREC_FINE.split()),
    rows={"train": 5452, "test": 500}, citation="Li and Roth 2002",
    about="the questions of trec_coarse, carved alike; 42 of the 50 classes stand in test",
)  # fmt: skip

wiki_qa = classification(
    hub("microsoft/wiki_qa", test="test"),
    text="answer", query="question", label="label", classes=("0", "1"),
    metrics=("accuracy", "f1"), rows={"train": 20360, "validation": 2733, "test": 6165},
    licence="other", citation="Yang et al. 2015",
    about="about one answer in twenty is right",
)  # fmt: skip
