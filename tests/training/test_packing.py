"""Rows of whole records: by hand, and what holds for all records."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.conversation import IGNORE_INDEX
from burnish.training.llama.attention import Segment
from burnish.training.packing import MIN_PREFIX, pack, pad_row


def record(length, *, first=100, learned=1):
    """A record of tokens that count up, whose last `learned` tokens are supervised."""
    ids = list(range(first, first + length))
    quiet = length - learned
    return ids, [IGNORE_INDEX] * quiet + ids[quiet:]


def contents(rows):
    return [row.input_ids.tolist() for row in rows]


def test_the_longest_come_first_and_each_goes_into_the_first_row_with_room():
    lengths = [3, 6, 4, 7, 5]
    records = [record(n, first=100 * n) for n in lengths]
    rows = pack(records, 10, share_prefixes=False)
    # 7 | 6 | 5 | 4 into the row of 6 | 3 into the row of 7
    assert [len(row) for row in rows] == [10, 10, 5]
    assert contents(rows) == [
        [*range(700, 707), *range(300, 303)],
        [*range(600, 606), *range(400, 404)],
        [*range(500, 505)],
    ]


def test_positions_start_anew_and_segments_say_where():
    (row,) = pack([record(2, first=50), record(3)], 8, share_prefixes=False)
    assert row.input_ids.tolist() == [100, 101, 102, 50, 51]
    assert row.position_ids.tolist() == [0, 1, 2, 0, 1]
    assert row.segments == (Segment(0, 3), Segment(3, 5, 3, 3))
    assert [s.prefix for s in row.segments] == [0, 0]
    assert row.num_tokens == len(row) == 5


def test_predictors_stand_one_before_their_targets():
    first = ([10, 11, 12, 13], [-100, 11, -100, 13])
    second = ([20, 21, 22], [20, -100, 22])  # a first token has nothing that predicts it
    (row,) = pack([first, second], 8, share_prefixes=False)
    assert row.predictors.tolist() == [0, 2, 5]
    assert row.targets.tolist() == [11, 13, 22]


def test_a_label_may_differ_from_its_token():
    (row,) = pack([([10, 11], [-100, 99])], 8, share_prefixes=False)
    assert row.targets.tolist() == [99]


def test_a_record_longer_than_a_row_has_one_of_its_own():
    rows = pack([record(9), record(2), record(2)], 4, share_prefixes=False)
    assert [len(row) for row in rows] == [9, 4]


def test_rows_of_one_token_hold_one_record_each():
    rows = pack([record(3), record(1), record(2)], 1, share_prefixes=False)
    assert [len(row) for row in rows] == [3, 2, 1]
    assert [len(row.predictors) for row in rows] == [1, 1, 0]


def test_records_without_anything_to_learn_and_of_one_token_keep_their_place():
    (row,) = pack([([7], [7]), ([8, 9], [-100, -100])], 8, share_prefixes=True)
    assert row.input_ids.tolist() == [8, 9, 7]
    assert row.predictors.tolist() == []
    assert row.targets.dtype == torch.long


def test_no_records_make_no_rows():
    assert pack([], 8, share_prefixes=True) == []


def test_a_shared_beginning_stands_once_and_each_record_sees_it():
    system = list(range(200, 210))  # ten tokens
    records = [
        ([*system, 1, 2, 3], [-100] * 11 + [2, 3]),
        ([*system, 4, 5], [-100] * 11 + [5]),
    ]
    (row,) = pack(records, 64, share_prefixes=True)
    assert row.input_ids.tolist() == [*system, 1, 2, 3, 4, 5]
    assert row.position_ids.tolist() == [*range(10), 10, 11, 12, 10, 11]
    assert row.segments == (Segment(0, 10), Segment(10, 13, 0, 10), Segment(13, 15, 0, 10))
    assert row.predictors.tolist() == [10, 11, 13]
    assert row.targets.tolist() == [2, 3, 5]
    assert (len(row), row.num_tokens) == (15, 13 + 12)


def test_a_shared_beginning_makes_room_for_more_records():
    system = list(range(200, 220))
    records = [([*system, n, n], [-100] * 21 + [n]) for n in range(5)]
    assert len(pack(records, 30, share_prefixes=False)) == 5
    # 20 shared tokens and two of each of five records are 30.
    assert [len(row) for row in pack(records, 30, share_prefixes=True)] == [30]


def test_a_group_that_needs_two_rows_has_its_beginning_in_both():
    system = list(range(200, 220))
    records = [([*system, n, n], [-100] * 21 + [n]) for n in range(4)]
    rows = pack(records, 24, share_prefixes=True)
    assert contents(rows) == [[*system, 0, 0, 1, 1], [*system, 2, 2, 3, 3]]


def test_a_beginning_ends_before_what_predicts_a_supervised_token():
    ids = list(range(200, 212))
    # The token at 11 is learned, so the one at 10 predicts it and belongs to each record.
    records = [(ids, [-100] * 11 + ids[11:])] * 2
    (row,) = pack(records, 64, share_prefixes=True)
    assert row.segments == (Segment(0, 10), Segment(10, 12, 0, 10), Segment(12, 14, 0, 10))
    assert row.predictors.tolist() == [10, 12]


@pytest.mark.parametrize("common, shared", [(MIN_PREFIX - 1, False), (MIN_PREFIX, True)])
def test_short_beginnings_are_not_shared(common, shared):
    start = list(range(200, 200 + common))
    records = [([*start, n, n, n], [-100] * (common + 2) + [n]) for n in (1, 2)]
    (row,) = pack(records, 64, share_prefixes=True)
    assert len(row) == 2 * (common + 3) - (common if shared else 0)


def test_a_record_alone_in_its_row_has_no_beginning_apart():
    system = list(range(200, 220))
    records = [([*system, n], [-100] * 20 + [n]) for n in range(2)]
    rows = pack(records, 21, share_prefixes=True)
    assert [row.segments for row in rows] == [(Segment(0, 21),)] * 2


def test_to_moves_every_tensor_and_keeps_the_rest():
    (row,) = pack([record(3)], 8, share_prefixes=False)
    moved = row.to(torch.device("meta"))
    tensors = (moved.input_ids, moved.position_ids, moved.predictors, moved.targets)
    assert all(t.device.type == "meta" for t in tensors)
    assert (moved.segments, moved.num_tokens) == (row.segments, row.num_tokens)


tokens = st.integers(0, 2)  # few, so that beginnings often agree


@st.composite
def some_records(draw):
    starts = [draw(st.lists(tokens, min_size=10, max_size=14)) for _ in range(2)]
    made = []
    for _ in range(draw(st.integers(1, 9))):
        start = draw(st.sampled_from([[], *starts]))
        ids = start + draw(st.lists(tokens, min_size=1, max_size=12))
        learned = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
        quiet = draw(st.integers(0, len(ids)))
        marks = [kept and i >= quiet for i, kept in enumerate(learned)]
        made.append((ids, [t if m else -100 for t, m in zip(ids, marks, strict=True)]))
    return made


def read_back(row):
    """The records of a row as (ids, labels), rebuilt from its segments."""
    shared = {(s.prefix_start, s.prefix_stop) for s in row.segments if s.prefix}
    target_of = dict(zip(row.predictors.tolist(), row.targets.tolist(), strict=True))
    assert len(target_of) == len(row.predictors)
    found = []
    for s in row.segments:
        places = [*range(s.prefix_start, s.prefix_stop), *range(s.start, s.stop)]
        assert row.position_ids[places].tolist() == list(range(len(places)))
        if (s.start, s.stop) in shared:
            assert not target_of.keys() & set(range(s.start, s.stop))
            continue
        labels = [target_of.get(place, -100) for place in places[:-1]]
        found.append((row.input_ids[places].tolist(), labels))
    assert row.num_tokens == sum(len(ids) for ids, _ in found)
    return found


@given(some_records(), st.integers(1, 60), st.booleans())
@settings(max_examples=200)
def test_every_record_is_in_one_row_whole_and_in_order(records, row_length, share):
    rows = pack(records, row_length, share_prefixes=share)
    found = [r for row in rows for r in read_back(row)]
    expected = [(list(ids), list(labels[1:])) for ids, labels in records]
    assert sorted(found) == sorted(expected)
    for row in rows:
        assert len(row) <= row_length or len(read_back(row)) == 1
    assert pack(records, row_length, share_prefixes=share)[0].segments == rows[0].segments
    if not share:
        assert sum(map(len, rows)) == sum(len(ids) for ids, _ in records)


def first_fit(lengths, row_length):
    """First fit decreasing, as it is written: rows of record numbers."""
    rows = []
    for record in sorted(range(len(lengths)), key=lambda r: (-lengths[r], r)):
        for row in rows:
            if sum(lengths[r] for r in row) + lengths[record] <= row_length:
                row.append(record)
                break
        else:
            rows.append([record])
    return rows


@given(st.lists(st.integers(1, 12), max_size=40), st.integers(1, 20))
def test_every_record_goes_into_the_first_row_with_room(lengths, row_length):
    records = [record(n, first=1000 * i) for i, n in enumerate(lengths)]
    found = [
        [
            i // 1000
            for i, p in zip(row.input_ids.tolist(), row.position_ids.tolist(), strict=True)
            if p == 0
        ]
        for row in pack(records, row_length, share_prefixes=False)
    ]
    assert found == first_fit(lengths, row_length)


# --- rows of one length ----------------------------------------------------------------------


def test_a_row_is_padded_by_tokens_of_a_segment_of_their_own_that_carry_no_loss():
    (row,) = pack([record(2, first=50), record(3)], 8, share_prefixes=False)
    padded = pad_row(row, 8)
    assert padded.input_ids.tolist() == [100, 101, 102, 50, 51, 0, 0, 0]
    assert padded.position_ids.tolist() == [0, 1, 2, 0, 1, 0, 0, 0]
    assert padded.segments == (*row.segments, Segment(5, 8))
    assert padded.predictors.tolist() == row.predictors.tolist() == [1, 3]
    assert padded.targets.tolist() == [102, 51]
    assert padded.num_tokens == 5


@pytest.mark.parametrize("length, padded", [(7, 8), (8, 8), (9, 16), (17, 24)])
def test_a_longer_row_is_padded_to_the_next_multiple(length, padded):
    (row,) = pack([record(length)], 8, share_prefixes=False)
    assert len(pad_row(row, 8)) == padded
