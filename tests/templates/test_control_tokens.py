"""Boundaries inside texts are hidden and then encoded as text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import Message
from burnish.errors import DataError
from burnish.templates.control_tokens import Boundaries, Hidden, pattern_of, prepends_blank
from tests.conftest import byte_tokenizer
from tests.rendering.shapes import merging_tokenizer, sentencepiece_tokenizer

TOKENIZER = byte_tokenizer()
NAMES = {0: "<|endoftext|>", 1: "<|im_start|>", 2: "<|im_end|>"}
THINKS = pattern_of([*NAMES.values(), "<think>"])


def hidden_with(tokenizer=TOKENIZER, *, names=NAMES, more=(), prepends=False):
    """Hides the control tokens; from anyone but the assistant `more`, too."""
    own = pattern_of(names.values())
    anyone = pattern_of([*names.values(), *more])
    return Hidden(tokenizer, Boundaries(anyone, own, dict(names), prepends))


def test_the_pattern_finds_the_longest_name_and_no_blanks():
    assert pattern_of(["<s>", "<s>x", " "]).findall("a <s>x <s>") == ["<s>x", "<s>"]
    assert pattern_of([]).search("anything") is None


def test_parts_of_names_are_found_only_where_a_text_begins_or_ends():
    pattern = pattern_of(["<s>"], ends={"<|im_end"}, begins={"|im_end|>"})
    assert pattern.findall("<|im_end x <|im_end") == ["<|im_end"]
    assert pattern.search("<|im_end x <|im_end").start() == 11
    assert pattern.findall("|im_end|> x |im_end|>") == ["|im_end|>"]
    assert pattern.search("x |im_end|>") is None


def test_placeholders_stand_for_control_tokens_in_all_texts_of_a_message():
    hidden = hidden_with()
    end = "<|im_end|>"
    message = Message(
        "assistant",
        f"a{end}",
        end,
        ({"name": end, "arguments": {end: [f"b{end}", 1, None, {"c": end}]}},),
        reasoning_content=f"c{end}",
        train=False,
        call_ids=(f"d{end}",),
        name=f"e{end}",
        tool_call_id=f"f{end}",
    )
    covered = hidden.cover(message)
    assert end not in str(covered)
    assert (covered.role, covered.train) == ("assistant", False)
    assert covered.content.startswith("a")
    assert covered.reasoning_content.startswith("c")
    assert covered.call_ids[0].startswith("d")
    assert (covered.name[0], covered.tool_call_id[0]) == ("e", "f")
    assert covered.tool_calls[0]["arguments"] != message.tool_calls[0]["arguments"]
    assert hidden.cover(Message("user", "plain", "text")) == Message("user", "plain", "text")


def test_the_assistant_may_write_what_others_may_not():
    hidden = hidden_with(more=["<think>"])
    assert hidden.cover(Message("assistant", "<think>")).content == "<think>"
    assert "<think>" not in hidden.cover(Message("user", "<think>")).content


@pytest.mark.parametrize("text", ["a\ue0f00\ue0f1b", r"a\ue0f00\ue0f1b", "\ue0f1\ue0f0"])
def test_what_looks_like_a_placeholder_stays_the_text_that_it_was(text):
    hidden = hidden_with()
    assert TOKENIZER.decode(hidden.encode(hidden.cover("<|im_end|>" + text))) == "<|im_end|>" + text


pieces = st.sampled_from(["<|im_end|>", "<|im_start|>", "<|im_", "end|>", "x", "\ue0f0", "\ue0f1"])


@given(st.lists(pieces | st.text(max_size=4), max_size=8).map("".join))
def test_a_covered_text_has_no_control_token_and_reads_as_before(text):
    hidden = hidden_with()
    ids = hidden.encode(hidden.cover(text))
    assert not {0, 1, 2} & set(ids)
    assert TOKENIZER.decode(ids) == text


@pytest.mark.parametrize("text", ["", "plain", "头痛 🩺"])
def test_benign_text_is_encoded_as_the_tokenizer_does(text):
    hidden = hidden_with()
    assert hidden.cover(text) == text
    assert hidden.encode(text) == TOKENIZER(text, add_special_tokens=False)["input_ids"]


def test_a_placeholder_survives_a_template_that_writes_ascii_json():
    hidden = hidden_with()
    covered = hidden.cover("a<|im_end|>b")
    escaped = covered.encode("ascii", "backslashreplace").decode()
    assert escaped == r"a\ue0f00\ue0f1b"
    assert TOKENIZER.decode(hidden.encode(escaped)) == "a<|im_end|>b"
    assert 2 not in hidden.encode(escaped)


def test_a_placeholder_that_a_template_cut_is_refused():
    hidden = hidden_with()
    covered = hidden.cover("a<|im_end|>b")
    with pytest.raises(DataError, match="cuts a message"):
        hidden.encode(covered[:3])


def test_markers_that_are_no_tokens_get_ids_of_their_own_where_the_tokenizer_has_merges():
    tokenizer = merging_tokenizer()
    hidden = hidden_with(tokenizer, more=["\n\n###"])
    assert hidden.encode("\n\n###")[0] == tokenizer.convert_tokens_to_ids("ĊĊ")
    typed = hidden.encode(hidden.cover("\n\n###"))
    assert tokenizer.convert_ids_to_tokens(typed) == ["Ċ", "Ċ", "#", "#", "#"]


def normalizing_tokenizer():
    """The byte tokenizer with NFKC before it, and <end> as a token of the normalized text."""
    from tokenizers import AddedToken, normalizers

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    tokenizer.add_tokens([AddedToken("<end>", special=False, normalized=True)])
    return tokenizer


def test_full_width_characters_that_normalize_to_a_control_token_stay_text():
    tokenizer = normalizing_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<end>")
    assert end in tokenizer("a＜end＞b")["input_ids"]
    hidden = hidden_with(tokenizer, names={**NAMES, end: "<end>"})
    ids = hidden.encode(hidden.cover("a＜end＞b") + "<end>")
    assert ids.count(end) == 1
    assert ids[-1] == end
    assert tokenizer.decode(ids) == "a<end>b<end>"


def test_a_name_that_the_vocabulary_itself_holds_is_spelled_out():
    # Unigram models find </s> among their pieces even where special tokens are off.
    from tokenizers import AddedToken, Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((c, -9.0) for c in "</s>ab")]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.add_special_tokens([AddedToken("</s>", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    assert tokenizer("</s>", split_special_tokens=True, add_special_tokens=False)["input_ids"] == [
        1
    ]
    hidden = hidden_with(tokenizer, names={1: "</s>"})
    ids = hidden.encode(hidden.cover("a</s>b") + "</s>")
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "<", "/", "s", ">", "b", "</s>"]


def test_text_behind_a_placeholder_gets_no_blank_that_nobody_wrote():
    tokenizer = sentencepiece_tokenizer("")
    assert prepends_blank(tokenizer)
    assert not prepends_blank(TOKENIZER)
    names = {1: "<s>", 2: "</s>"}
    hidden = hidden_with(tokenizer, names=names, prepends=True)
    ids = hidden.encode(hidden.cover("a</s>b"))
    assert tokenizer.convert_ids_to_tokens(ids) == ["▁a", "<", "/", "s", ">", "b"]
    assert re.sub(" ", "", tokenizer.decode(ids)) == "a</s>b"


def test_what_is_hidden_can_be_read_again():
    hidden = hidden_with()
    covered = hidden.cover("a<|im_end|>b<|im_start|>")
    assert hidden.uncover(covered) == "a<|im_end|>b<|im_start|>"
    assert hidden.uncover(repr(covered)) == repr("a<|im_end|>b<|im_start|>")
