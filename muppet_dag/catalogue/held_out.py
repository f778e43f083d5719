"""For evaluation only: fine-tuned and scored, never in pre-finetuning (a mixture refuses them)."""

from __future__ import annotations

from muppet_dag.catalogue.sql import from_html, key_index
from muppet_dag.catalogue.task import CONVERTED, Task, classification, commonsense, hub

NLI = ("entailment", "neutral", "contradiction")


def _anli(number: int, train: int, evaluation: int) -> Task:
    train_split, validation, test = (f"{part}_r{number}" for part in ("train", "dev", "test"))
    return classification(
        hub("facebook/anli", "plain_text", train=train_split, validation=validation, test=test),
        id="uid", text="premise", query="hypothesis", label="label", classes=NLI,
        rows={train_split: train, validation: evaluation, test: evaluation}, held_out=True,
        licence="cc-by-nc-4.0", citation="Nie et al. 2020",
        about=f"round {number} of 3; the annotators' reasons are not used",
    )  # fmt: skip


anli_r1 = _anli(1, 16946, 1000)
anli_r2 = _anli(2, 45460, 1000)
anli_r3 = _anli(3, 100459, 1200)

hyperpartisan = classification(
    hub("SemEvalWorkshop/hyperpartisan_news_detection", "byarticle", revision=CONVERTED,
        train="train[20%:]", validation="train[:10%]", test="train[10%:20%]"),
    text=from_html("text"), label="hyperpartisan::INTEGER", classes=("False", "True"),
    metrics=("accuracy", "f1"), rows={"train": 645}, held_out=True,
    licence="cc-by-4.0", citation="Kiesel et al. 2019",
    about="the articles as plain text, without their titles; only train is public",
)  # fmt: skip

emotion = classification(
    hub("dair-ai/emotion", "split", test="test"),
    text="text", label="label", classes=("sadness", "joy", "love", "anger", "fear", "surprise"),
    metrics=("accuracy", "macro_f1"), held_out=True,
    rows={"train": 16000, "validation": 2000, "test": 2000}, citation="Saravia et al. 2018",
)  # fmt: skip

# The answer is given as text.
dream = commonsense(
    hub("dataset-org/dream", "plain_text", revision=CONVERTED, test="test"),
    text="array_to_string(dialogue, chr(10))", query="question",
    choices="choice", label=key_index("choice", "answer"), held_out=True,
    rows={"train": 6116, "validation": 2040, "test": 2041}, citation="Sun et al. 2019",
    about="a dialogue, one turn a line, and three candidates",
)  # fmt: skip

qasc = commonsense(
    hub("allenai/qasc"), id="id",
    query="question", choices="choices.text", label=key_index("choices.label", "answerKey"),
    rows={"train": 8134, "validation": 926}, held_out=True,
    licence="cc-by-4.0", citation="Khot et al. 2020",
    about="eight candidates; the gold facts are not used",
)  # fmt: skip

piqa = commonsense(
    hub("ybisk/piqa", "plain_text", revision=CONVERTED),
    query="goal", choices="[sol1, sol2]", label="label",
    rows={"train": 16113, "validation": 1838}, held_out=True, citation="Bisk et al. 2020",
)  # fmt: skip

social_i_qa = commonsense(
    hub("allenai/social_i_qa", revision=CONVERTED), text="context", query="question",
    choices="[\"answerA\", \"answerB\", \"answerC\"]", label=key_index("['1', '2', '3']", "label"),
    rows={"train": 33410, "validation": 1954}, held_out=True, citation="Sap et al. 2019",
)  # fmt: skip

# Twin sentences are neighbours, so the splits stay as they are.
winogrande = commonsense(
    hub("allenai/winogrande", "winogrande_xl"),
    choices="list_transform([option1, option2], lambda option: replace(sentence, '_', option))",
    label=key_index("['1', '2']", "answer"),
    rows={"train": 40398, "validation": 1267}, held_out=True, citation="Sakaguchi et al. 2020",
    about="the candidates are the sentence with either option in its gap",
)  # fmt: skip
