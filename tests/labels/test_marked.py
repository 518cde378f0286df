"""Tokens are apart, control tokens have their names, and what carries loss stands out."""

from __future__ import annotations

from burnish.conversation import IGNORE_INDEX
from burnish.labels.marked import CONTEXT, CONTROL, TRAINED, as_html, bracketed, coloured, pieces
from burnish.labels.marked import print_example as show
from burnish.rendering import render_example
from tests.conftest import byte_tokenizer
from tests.rendering.shapes import ids_of, talk


def marked(question, answer, tokenizer=None):
    tokenizer = tokenizer or byte_tokenizer()
    example = render_example(talk(question, answer), tokenizer, 500)
    return list(pieces(example.input_ids, example.labels, tokenizer))


def test_every_token_is_a_piece_and_a_character_of_several_tokens_is_one():
    found = marked("a", "痛!🩺")
    spoken = [piece for piece in found if piece.supervised]
    assert [(p.text, len(p.ids)) for p in spoken] == [
        ("痛", 3),
        ("!", 1),
        ("🩺", 4),
        ("<|im_end|>", 1),
    ]
    assert [p.is_control for p in spoken] == [False, False, False, True]
    assert [p.text for p in found[:6]] == ["<|im_start|>", "u", "s", "e", "r", "↵\n"]


def test_the_pieces_hold_all_ids_in_order():
    tokenizer = byte_tokenizer()
    example = render_example(talk("头痛", "多喝水"), tokenizer, 500)
    found = pieces(example.input_ids, example.labels, tokenizer)
    assert [i for piece in found for i in piece.ids] == example.input_ids


def test_half_a_character_at_a_cut_end_stays_in_pieces():
    ids = ids_of(byte_tokenizer(), "痛")[:2]
    assert [p.ids for p in pieces(ids, ids, byte_tokenizer())] == [(ids[0],), (ids[1],)]


def test_ids_and_labels_that_fit_nothing_are_shown_as_they_are():
    tokenizer = byte_tokenizer()
    (a,) = ids_of(tokenizer, "a")
    found = list(pieces([a, 5000, a], [7, IGNORE_INDEX], tokenizer))
    assert [(p.text, p.supervised, p.is_other) for p in found] == [
        ("a", True, True),
        ("[id 5000]", False, False),
        ("a", False, False),
    ]


def test_neighbouring_tokens_have_styles_in_turn_and_control_tokens_their_own():
    text = coloured(marked("a", "bcd"))
    styles = [(text.plain[s.start : s.end], str(s.style)) for s in text.spans]
    assert styles[0] == ("<|im_start|>", CONTROL[False])
    assert {style for shown, style in styles[1:5]} == set(CONTEXT)
    answer = [style for shown, style in styles if shown in ("b", "c", "d")]
    assert answer in ([TRAINED[0], TRAINED[1], TRAINED[0]], [TRAINED[1], TRAINED[0], TRAINED[1]])
    assert ("<|im_end|>", CONTROL[True]) in styles


def test_without_colours_brackets_hold_what_carries_loss():
    assert bracketed(marked("a", "bc")).endswith("t·↵\n⟦b·c·<|im_end|>⟧")
    assert bracketed([]) == ""


def test_html_is_escaped_and_tells_ids():
    shown = as_html(marked("<b>", "&"))
    (ampersand,) = ids_of(byte_tokenizer(), "&")
    assert f'<span class="on" title="{ampersand}">&amp;</span>' in shown
    assert '<span class="control" title="1">&lt;|im_start|&gt;</span>' in shown
    assert '<span class="on control" title="2">&lt;|im_end|&gt;</span>' in shown
    assert "<b>" not in shown


def test_text_that_looks_like_markup_is_printed_as_it_is(capsys):
    tokenizer = byte_tokenizer()
    example = render_example(talk("[b]", "[/b]"), tokenizer, 500)
    show(example.input_ids, example.labels, tokenizer)
    assert "⟦[·/·b·]·<|im_end|>⟧" in capsys.readouterr().out
