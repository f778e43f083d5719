"""A special token's name in a text is text, whatever the tokenizer and wherever the text stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from muppet_dag import catalogue
from muppet_dag.corpus.encode import ENCODE, Row, TokenSpec
from muppet_dag.corpus.specials import load_tokenizer
from muppet_dag.corpus.tokenize import tokenize

NAMES = ("<pad>", "<unk>", "<s>", "</s>", "<mask>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
         "<|endoftext|>", "<extra_id_0>")  # fmt: skip
#: What the post-processor puts in: begin and end of a text, as BERT's, RoBERTa's and T5's do.
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
SPEC = TokenSpec(max_length=512, stride=64, max_target_length=512)
#: The first holds every sign of the names.
CORPUS = ["the user wrote it in a review of 3 + 4 : " + " ".join("".join(NAMES)), *NAMES] * 8


def word_piece() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer, trainers.WordPieceTrainer(special_tokens=[*NAMES], vocab_size=200)


def byte_bpe() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return tokenizer, trainers.BpeTrainer(
        special_tokens=[*NAMES], vocab_size=320, initial_alphabet=alphabet
    )


def unigram() -> tuple[Tokenizer, trainers.Trainer]:
    """As SentencePiece's: special tokens are pieces of the vocabulary."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer, trainers.UnigramTrainer(
        special_tokens=[*NAMES], unk_token=UNKNOWN, vocab_size=120
    )


def word_level() -> tuple[Tokenizer, None]:
    """Words apart by blanks, so that a name stands in the vocabulary as a whole word."""
    words = [*NAMES, *["the", "user", "wrote", "it", "in", "a", "review", "of"]]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([*NAMES])
    return tokenizer, None


KINDS = {make.__name__: make for make in (word_piece, byte_bpe, unigram, word_level)}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory) -> Path:
    """A model folder with a tokenizer of this kind, and an added token that is not special."""
    tokenizer, trainer = KINDS[request.param]()
    if trainer:
        tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), "<late>"])
    tokenizer.add_tokens(["[title]"])
    ids = [(name, tokenizer.token_to_id(name)) for name in (BEGIN, END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", pair=f"{BEGIN} $A {END} $B:1 {END}:1", special_tokens=ids
    )
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text("{}")
    return folder


def plain(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


TEXTS = st.lists(
    st.one_of(st.sampled_from([*NAMES, "<late>", "[title]", " ", "a"]), st.text(max_size=6)),
    max_size=8,
).map("".join)
ANY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def encode(folder: Path, name: str, **columns: object) -> list[Row]:
    row = {"text": "", "query": None, "label": 0, "score": None, **columns}
    task = catalogue.get(name)
    rows = {key: [value] for key, value in row.items()}
    return ENCODE[task.family](load_tokenizer(folder), task, SPEC, rows, 0)


def specials(folder: Path, ids: list[int]) -> list[str]:
    """Special tokens among the ids; a word that the vocabulary lacks is no special token."""
    tokenizer = plain(folder)
    names = {tokenizer.token_to_id(name): name for name in (*NAMES, "<late>") if name != UNKNOWN}
    return [names[i] for i in ids if i in names]


@ANY
@given(text=TEXTS, other=TEXTS)
def test_no_text_holds_a_special_token(folder, text, other):
    pair = [BEGIN, END, END]
    (row,) = encode(folder, "sst2", text=text)
    assert specials(folder, row.sequences[0].ids) == [BEGIN, END]
    (row,) = encode(folder, "rte", text=text, query=other)
    assert specials(folder, row.sequences[0].ids) == pair
    (row,) = encode(folder, "cosmos_qa", text=f"a{text}", query=f"a{other}", choices=[text, other])
    assert [specials(folder, each.ids) for each in row.sequences] == [pair, pair]
    for row in encode(folder, "squad", text=f"a{text}", query=other, answers=[]):
        assert specials(folder, row.sequences[0].ids) == pair
    (row,) = encode(folder, "aeslc", text=text, target=other)
    assert specials(folder, row.target) == [BEGIN, END]


@ANY
@given(text=st.text(max_size=40))
def test_other_text_is_read_as_the_tokenizer_reads_it(folder, text):
    text = f"the [title] {text} ."
    assert load_tokenizer(folder).encode(text).ids == plain(folder).encode(text).ids


@pytest.mark.parametrize("name", [*NAMES, "<late>"])
def test_a_name_is_read_sign_by_sign(folder, name):
    """Not as the unknown token either, where the vocabulary holds its signs."""
    if "word_level" in folder.name:
        pytest.skip("knows whole words only")
    text = f"the{name} {name}"
    tokenizer = load_tokenizer(folder)
    encoded = tokenizer.encode(text, add_special_tokens=False)
    if set(name) <= set(CORPUS[0]):
        assert plain(folder).token_to_id(UNKNOWN) not in encoded.ids
    covered = {at for first, last in encoded.offsets for at in range(first, last)}
    assert {text[at] for at in range(len(text)) if at not in covered} <= {" "}
    assert len(encoded) > 2


def test_special_tokens_keep_their_ids(folder):
    hidden, tokenizer = load_tokenizer(folder), plain(folder)
    assert hidden.get_vocab_size() == tokenizer.get_vocab_size()
    names = {i: name for name, i in tokenizer.get_vocab().items()}
    changed = {names[i] for name, i in hidden.get_vocab().items() if names[i] != name}
    assert changed == {*NAMES, "<late>"}


@ANY
@given(before=TEXTS, answer=st.sampled_from(NAMES), behind=TEXTS)
def test_spans_are_right_beside_and_inside_such_names(folder, before, answer, behind):
    text = f"{before} {answer} {behind}"
    gold = [{"text": answer, "start": len(before) + 1}]
    (row,) = encode(folder, "squad", text=text, query="who ?", answers=gold)
    first = row.passage[0]
    start, end = row.offsets[row.start - first][0], row.offsets[row.end - first][1]
    assert text[start:end].strip() == answer


def test_token_files_hold_them_as_text(folder, tmp_path):
    from tests.corpus.test_tokenize import rows_of, shard

    rows = [{"text": f"the user wrote {name} .", "label": 0} for name in NAMES]
    tokenize(catalogue.get("sst2"), shard(tmp_path / "shards", rows), folder, tmp_path, SPEC)
    for row in rows_of(tmp_path):
        assert specials(folder, row["input_ids"]) == [BEGIN, END]


def test_a_merge_that_makes_a_special_token_makes_none_in_a_text(tmp_path):
    vocab = {c: i for i, c in enumerate(["</s>", "<", "/", "s", ">", "</", "</s", "a"])}
    merges = [("<", "/"), ("</", "s"), ("</s", ">")]
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode("a</s>").tokens == ["a", "</s", ">"]


@pytest.mark.parametrize("kind", [processors.BertProcessing, processors.RobertaProcessing])
def test_tokens_of_every_post_processor_are_special(tmp_path, kind):
    vocab = {"[CLS]": 0, "[SEP]": 1, "a": 2, "[UNK]": 3}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    last = kind(("[SEP]", 1), ("[CLS]", 0))
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), last])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode("a [SEP] [CLS]").ids == [0, 2, 3, 3, 1]


def test_minilm_reads_names_as_text():
    folder = Path(__file__).parents[3] / "shared/models/all-MiniLM-L6-v2"
    if not folder.is_dir():
        pytest.skip("the model is not here")
    encoded = load_tokenizer(folder).encode("wrote [SEP] in", "[CLS] [UNK]")
    assert encoded.ids.count(102) == 2 and encoded.ids.count(101) == 1 and 100 not in encoded.ids
