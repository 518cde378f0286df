import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.likeness import jaccard_of
from burnish.cleaning.minhash import (
    _BATCH_CHARS,
    NUM_EARLIEST,
    NUM_LIKELIEST,
    NUM_PERMUTATIONS,
    _batches,
    candidates,
    estimate,
    grouped,
    normalize,
    signatures_of,
    untracked,
)


def pairs_of(texts, threshold=0.6):
    signatures = signatures_of(texts)
    left, right = candidates(
        signatures, np.arange(len(texts)), threshold=threshold, track=untracked
    )
    return list(zip(left.tolist(), right.tolist(), strict=True))


def words(draw, number):
    return "".join(chr(0x4E00 + draw.randrange(2500)) for _ in range(number))


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("Hello, World_2!", "helloworld2"),
        ("头痛， 怎么办？", "头痛怎么办"),
        ("?! ?", "?!?"),
        (" \n", ""),
    ],
)
def test_only_letters_and_digits_count_unless_there_are_none(text, letters):
    assert normalize(text) == letters


def test_case_blanks_and_marks_do_not_change_a_signature():
    one, other = signatures_of(["Drink tea, then rest.", "DRINK TEA\nthen -- rest!"])
    assert (one == other).all()


@given(st.lists(st.text(max_size=12), min_size=1, max_size=8))
def test_a_signature_does_not_depend_on_the_texts_beside_it(texts):
    together = signatures_of(texts)
    assert together.shape == (len(texts), NUM_PERMUTATIONS)
    for text, signature in zip(texts, together, strict=True):
        assert (signatures_of([text])[0] == signature).all()


def test_many_texts_are_signed_in_batches():
    texts = [f"text number {i}" for i in range(1100)]
    assert (signatures_of(texts)[1099] == signatures_of(texts[1099:])[0]).all()


def test_a_batch_holds_few_characters_as_well_as_few_texts():
    assert list(_batches(["a"] * 600)) == [(0, 512), (512, 600)]
    assert list(_batches(["a" * _BATCH_CHARS, "b", "c"])) == [(0, 1), (1, 3)]
    assert list(_batches([])) == []


def test_short_texts_are_one_gram():
    one, same, other = signatures_of(["abc", "A b c", "abd"])
    assert (one == same).all()
    assert (one == other).mean() < 0.1


def test_no_texts_have_no_signatures_and_no_candidates():
    assert signatures_of([]).shape == (0, NUM_PERMUTATIONS)
    assert pairs_of([]) == []


def test_an_estimate_is_within_four_deviations_of_the_jaccard():
    draw = random.Random(3)
    texts = []
    for _ in range(200):
        text = words(draw, 120)
        at = draw.randrange(20, 100)
        texts += [text, text[:at] + words(draw, 120 - at)]
    rows = np.arange(0, len(texts), 2)
    exact = [jaccard_of(texts[i], texts[i + 1], 4) for i in rows]
    error = estimate(signatures_of(texts), rows, rows + 1) - exact
    assert np.abs(error).max() < 4 * 0.5 / NUM_PERMUTATIONS**0.5
    assert abs(error.mean()) < 0.01


def test_rows_that_are_alike_become_candidates_and_others_do_not():
    draw = random.Random(4)
    text, other = words(draw, 100), words(draw, 100)
    assert pairs_of([text, other, text[:95], other + "谢谢"]) == [(0, 2), (1, 3)]


def test_rows_of_one_template_get_few_candidates_each():
    draw = random.Random(5)
    template = words(draw, 120)
    pairs = pairs_of([template + words(draw, 30) for _ in range(400)])
    assert len(pairs) <= 400 * (NUM_EARLIEST + NUM_LIKELIEST)
    assert (0, 399) in pairs


def test_the_copy_of_one_row_is_a_candidate_in_a_crowd_of_its_template():
    draw = random.Random(6)
    template = words(draw, 120)
    texts = [template + words(draw, 40) for _ in range(400)]
    assert (250, 400) in pairs_of([*texts, texts[250][:-2]])


def test_candidates_among_some_rows_do_not_depend_on_the_rows_behind_them():
    draw = random.Random(7)
    template = words(draw, 120)
    texts = [template + words(draw, draw.choice((5, 30, 60))) for _ in range(120)]
    whole = pairs_of(texts)
    for number in (1, 20, 77):
        assert pairs_of(texts[:number]) == [pair for pair in whole if pair[1] < number]


def test_pairs_are_grouped_by_their_later_row():
    left, right = np.array([0, 1, 0]), np.array([2, 2, 5])
    assert list(grouped(left, right)) == [(2, [0, 1]), (5, [0])]
    assert list(grouped(left[:0], right[:0])) == []
