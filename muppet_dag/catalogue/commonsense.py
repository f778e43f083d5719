"""Commonsense: multiple choice. One head for all.

``text`` is the context, ``query`` the question, ``label`` the index of the right candidate.
"""

from __future__ import annotations

from muppet_dag.catalogue.sql import key_index, let, strip
from muppet_dag.catalogue.task import CONVERTED, commonsense, hub

copa = commonsense(
    hub("aps/super_glue", "copa", revision=CONVERTED), text="premise",
    query="CASE question WHEN 'cause' THEN 'What was the cause of this?' "
          "ELSE 'What happened as a result?' END",
    choices="[choice1, choice2]", label="label",
    rows={"train": 400, "validation": 100}, citation="Roemmele et al. 2011",
)  # fmt: skip

openbookqa = commonsense(
    hub("allenai/openbookqa", "main", test="test"), id="id",
    query="question_stem", choices="choices.text", label=key_index("choices.label", "answerKey"),
    rows={"train": 4957, "validation": 500, "test": 500}, citation="Mihaylov et al. 2018",
)  # fmt: skip

commonsense_qa = commonsense(
    hub("tau/commonsense_qa"), id="id",
    query="question", choices="choices.text", label=key_index("choices.label", "answerKey"),
    rows={"train": 9741, "validation": 1221}, licence="mit", citation="Talmor et al. 2019",
)  # fmt: skip

cosmos_qa = commonsense(
    hub("allenai/cosmos_qa", revision=CONVERTED), id="id", text="context", query="question",
    choices="[answer0, answer1, answer2, answer3]", label="label",
    rows={"train": 25262, "validation": 2985}, licence="cc-by-4.0", citation="Huang et al. 2019",
)  # fmt: skip


# --- ARC: the keys are A to E or 1 to 5, so each row's own labels count; 3 to 5 candidates --------

arc_easy = commonsense(
    hub("allenai/ai2_arc", "ARC-Easy", test="test"), id="id",
    query="question", choices="choices.text", label=key_index("choices.label", "answerKey"),
    rows={"train": 2251, "validation": 570, "test": 2376},
    licence="cc-by-sa-4.0", citation="Clark et al. 2018",
)  # fmt: skip

arc_challenge = commonsense(
    hub("allenai/ai2_arc", "ARC-Challenge", test="test"), id="id",
    query="question", choices="choices.text", label=key_index("choices.label", "answerKey"),
    rows={"train": 1119, "validation": 299, "test": 1172},
    licence="cc-by-sa-4.0", citation="Clark et al. 2018",
)  # fmt: skip


# --- RACE: an example_id names the article, not the row, so it is no id ---------------------------

RACE_LABEL = key_index("['A', 'B', 'C', 'D']", "answer")

race_high = commonsense(
    hub("ehovy/race", "high", test="test"),
    text="article", query="question", choices="options", label=RACE_LABEL,
    rows={"train": 62445, "validation": 3451, "test": 3498},
    licence="other (non-commercial research)", citation="Lai et al. 2017",
)  # fmt: skip

race_middle = commonsense(
    hub("ehovy/race", "middle", test="test"),
    text="article", query="question", choices="options", label=RACE_LABEL,
    rows={"train": 25421, "validation": 1436, "test": 1436},
    licence="other (non-commercial research)", citation="Lai et al. 2017",
)  # fmt: skip


# --- What happens next ----------------------------------------------------------------------------

swag = commonsense(
    hub("allenai/swag", "regular"), text="sent1",
    choices="list_transform([ending0, ending1, ending2, ending3], "
            "lambda ending: concat_ws(' ', nullif(sent2, ''), ending))",
    label="label", rows={"train": 73546, "validation": 20006}, citation="Zellers et al. 2018",
)  # fmt: skip


def _without_marks(text: str) -> str:
    """Without wikiHow's ``[title]`` marks, as the LM Evaluation Harness cleans this set."""
    titled = f"replace({text}, ' [title]', '. ')"
    bare = f"regexp_replace({titled}, '\\[.*?\\]', '', 'g')"
    return strip(f"replace({bare}, '  ', ' ')")


hellaswag = commonsense(
    hub("Rowan/hellaswag"), text=_without_marks("ctx"),
    choices=f"list_transform(endings, lambda ending: {_without_marks('ending')})",
    label=key_index("['0', '1', '2', '3']", "label"),
    rows={"train": 39905, "validation": 10042}, licence="mit", citation="Zellers et al. 2019",
)  # fmt: skip


# --- Exams ----------------------------------------------------------------------------------------


def _mathqa_choices() -> str:
    """Five options out of one string, ``a ) 24 , b ) 120 ...`` or ``['a ) 24', 'b ) 120', ...]``.

    Neither commas nor single marks can part them, since numbers hold commas and formulas ``b )``;
    all five in order can. A string of another form gives no candidates, which is reported.
    """
    bare = """regexp_replace(options, '^\\[[''"]|[''"]\\]$', '', 'g')"""
    line = f"""regexp_replace({bare}, '[''"], [''"]([b-e] \\))', ' , \\1', 'g')"""
    form = r"""'^\s*a \)(.*?),\s*b \)(.*?),\s*c \)(.*?),\s*d \)(.*?),\s*e \)(.*)$'"""
    options = ", ".join(f"regexp_extract(line, {form}, {group})" for group in range(1, 6))
    parts = f"list_transform([{options}], lambda part: {strip('part')})"
    return let("line", line, f"CASE WHEN regexp_matches(line, {form}) THEN {parts} ELSE [] END")


# The column Rationale is left out: it ends with the answer.
mathqa = commonsense(
    hub("allenai/math_qa", revision=CONVERTED, test="test"),
    query="Problem", choices=_mathqa_choices(),
    label=key_index("['a', 'b', 'c', 'd', 'e']", "correct"),
    rows={"train": 29837, "validation": 4475, "test": 2985},
    licence="apache-2.0", citation="Amini et al. 2019",
)  # fmt: skip

# The right answer has a column of its own. Its place is drawn by a hash of the row's text.
SCIQ_PLACE = "(md5_number(concat_ws(chr(10), question, correct_answer)) % 4)::INTEGER"

sciq = commonsense(
    hub("allenai/sciq", test="test"), text="coalesce(support, '')", query="question",
    choices="list_concat("
            f"[distractor1, distractor2, distractor3][1:{SCIQ_PLACE}], [correct_answer], "
            f"[distractor1, distractor2, distractor3][{SCIQ_PLACE} + 1:])",
    label=SCIQ_PLACE, rows={"train": 11679, "validation": 1000, "test": 1000},
    licence="cc-by-nc-3.0", citation="Welbl et al. 2017",
)  # fmt: skip
