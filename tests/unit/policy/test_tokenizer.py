from dataclasses import replace

import pytest
from tokenizers import Tokenizer, models

from moxin_vla.core.errors import CheckpointError, InstructionError
from moxin_vla.policy.moxin.tokenizer import (
    PromptTokenizer,
    build_tokenizer,
    load_tokenizer,
    prompt,
)

_TEXTS = ["pick up the red cube", "touch the blue cube", "put the green cube in the bowl"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer(_TEXTS)


@pytest.fixture
def prompts(tokenizer, config) -> PromptTokenizer:
    text = replace(config.text, vocab_size=tokenizer.get_vocab_size())
    return PromptTokenizer(tokenizer, replace(config, text=text, pad_token_id=3))


def test_prompt_is_the_released_one():
    expected = "In: What action should the robot take to pick up the red cube?\nOut:"
    assert prompt("  Pick up the RED cube ") == expected


def test_empty_instruction_is_refused(prompts):
    with pytest.raises(InstructionError, match="The instruction is empty"):
        prompts.ids("  ")


def test_prompts_start_with_bos_and_end_with_empty(prompts, tokenizer):
    ids = prompts.ids(_TEXTS[0])
    assert ids[0] == 1
    assert tokenizer.id_to_token(ids[-1]) == "▁"


@pytest.mark.parametrize("text", _TEXTS)
def test_known_words_are_whole_pieces(prompts, text):
    assert len(prompts.ids(text)) <= 20


def test_instructions_that_differ_in_one_word_differ_in_one_piece(prompts):
    pairs = zip(prompts.ids("pick up the red cube"), prompts.ids("pick up the blue cube"))  # noqa: B905
    assert sum(a != b for a, b in pairs) == 1


@pytest.mark.parametrize("text", ["öffne die Schublade 🙂", "<0x41>", "zzz 123 !?\t"])
def test_any_text_is_encoded_without_loss(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert 0 not in ids
    assert tokenizer.decode(ids) == text


def test_special_pieces_have_the_ids_of_llama(tokenizer):
    assert [tokenizer.token_to_id(piece) for piece in ("<unk>", "<s>", "</s>")] == [0, 1, 2]


def test_padding_is_on_the_right_and_masked(prompts):
    ids, mask = prompts.padded([_TEXTS[0], _TEXTS[2]])
    short = len(prompts.ids(_TEXTS[0]))
    assert len(ids[0]) == len(ids[1]) > short
    assert set(ids[0][short:]) == {3}
    assert mask[0] == [True] * short + [False] * (len(ids[1]) - short)


def test_override_of_empty_wins(prompts, tokenizer, config):
    text = replace(config.text, vocab_size=tokenizer.get_vocab_size())
    other = PromptTokenizer(tokenizer, replace(config, text=text, empty_token_id=7))
    assert other.ids(_TEXTS[0])[-1] == 7


def test_tokenizer_without_an_empty_piece_is_refused(config):
    with pytest.raises(CheckpointError) as error:
        PromptTokenizer(Tokenizer(models.BPE()), config)
    assert str(error.value) == (
        "The tokenizer has no piece '▁'. Set empty_token_id in config.json."
    )


def test_tokenizer_larger_than_the_vocabulary_is_refused(tokenizer, config):
    small = replace(config, text=replace(config.text, vocab_size=10))
    with pytest.raises(CheckpointError) as error:
        PromptTokenizer(tokenizer, small)
    assert str(error.value) == (
        f"The tokenizer has {tokenizer.get_vocab_size()} pieces. "
        "The trunk's vocabulary has room for 10."
    )


def test_prompt_longer_than_the_model_is_refused(tokenizer, config):
    text = replace(config.text, vocab_size=tokenizer.get_vocab_size())
    short = PromptTokenizer(tokenizer, replace(config, text=text, llm_max_length=5))
    with pytest.raises(CheckpointError, match="The model takes 5"):
        short.ids(_TEXTS[0])


def test_tokenizer_survives_its_file(tokenizer, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert again.encode(prompt(_TEXTS[1])).ids == tokenizer.encode(prompt(_TEXTS[1])).ids


def test_damaged_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CheckpointError, match="is not a tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")
