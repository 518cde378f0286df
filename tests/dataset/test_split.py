"""Which rows are held out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import Conversation, Message
from burnish.dataset.split import GOLDEN, SPLITS, assign_splits, copies, place
from burnish.recipe import PrepareSection


def asked(question, *, input="", answer="a", origin="x:1"):
    return Conversation((Message("user", question, input), Message("assistant", answer)), origin)


def grouped(*groups, origin="x:1", stratum="", weight=1.0, answer="a"):
    messages = (Message("user", origin), Message("assistant", answer))
    return Conversation(messages, origin, groups=groups, stratum=stratum, weight=weight)


def split(conversations, section):
    splits, rejections = assign_splits(conversations, section)
    assert rejections == []
    return splits


def rows(count):
    return [asked(f"Question {i}?", origin=f"x:{i}") for i in range(count)]


def origins(splits):
    return {name: [c.origin for c in part] for name, part in splits.items()}


def test_the_shares_are_met_on_average():
    section = PrepareSection(validation_size=0.1, test_size=0.2)
    splits = split(rows(4000), section)
    assert len(splits["test"]) == pytest.approx(800, abs=80)
    assert len(splits["validation"]) == pytest.approx(400, abs=60)


def test_rows_added_later_move_no_old_one():
    section = PrepareSection()
    before = origins(split(rows(200), section))
    after = origins(split([*rows(200)[::-1], *rows(300)[200:]], section))
    for name in SPLITS:
        assert set(before[name]) <= set(after[name])


def test_one_question_stays_on_one_side_whatever_its_answers_and_blanks():
    many = [c for i in range(60) for c in (asked(f"Why {i}?"), asked(f" Why\n{i}? ", answer="b"))]
    splits = split(many, PrepareSection(validation_size=0.3, test_size=0.3))
    for part in splits.values():
        names = ["".join(c.messages[0].content.split()) for c in part]
        assert all(names.count(name) == 2 for name in names)


def test_another_input_makes_another_question():
    section = PrepareSection(validation_size=0.3, test_size=0.3)
    many = [asked("Translate.", input=str(i)) for i in range(60)]
    assert all(split(many, section).values())


def test_another_seed_holds_out_other_rows():
    first = origins(split(rows(200), PrepareSection(seed=1)))
    second = origins(split(rows(200), PrepareSection(seed=2)))
    assert first["test"] != second["test"]


def test_rows_keep_their_order_within_a_split():
    numbers = [int(o[2:]) for o in origins(split(rows(200), PrepareSection()))["train"]]
    assert numbers == sorted(numbers)


def test_a_share_of_nothing_holds_out_nothing():
    splits = split(rows(100), PrepareSection(validation_size=0, test_size=0))
    assert [len(splits[name]) for name in SPLITS] == [100, 0, 0]


def test_no_rows_make_empty_splits():
    assert split([], PrepareSection()) == {"train": [], "validation": [], "test": []}


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.45, 0.45), (0.01, 0.9)])
@pytest.mark.parametrize("count, expected", [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1))])
def test_a_tiny_set_fills_training_first_and_every_split_from_three_on(
    seed, shares, count, expected
):
    section = PrepareSection(validation_size=shares[0], test_size=shares[1], seed=seed)
    splits = split(rows(count), section)
    sizes = tuple(len(splits[name]) for name in SPLITS)
    if count == 2:
        assert sizes[0] == 1
        assert sum(sizes) == 2
    else:
        assert sizes == expected


@given(
    questions=st.lists(st.sampled_from("abcdefgh"), max_size=12),
    validation=st.floats(0, 0.49),
    test=st.floats(0, 0.49),
    seed=st.integers(0, 50),
)
def test_every_row_is_in_exactly_one_split_and_training_is_never_empty(
    questions, validation, test, seed
):
    many = [asked(q, origin=f"x:{i}") for i, q in enumerate(questions)]
    section = PrepareSection(validation_size=validation, test_size=test, seed=seed)
    splits = split(many, section)
    found = sorted(o for part in origins(splits).values() for o in part)
    assert found == sorted(c.origin for c in many)
    assert bool(splits["train"]) == bool(many)
    if len(set(questions)) >= 3:
        assert bool(splits["test"]) >= (test > 0)
        assert bool(splits["validation"]) >= (validation > 0)


def test_a_passage_without_turns_has_a_place():
    passage = Conversation((Message("text", "Hello"),), "x:1")
    assert split([passage], PrepareSection())["train"] == [passage]


def test_rows_of_one_group_stay_on_one_side():
    section = PrepareSection(validation_size=0.3, test_size=0.3)
    many = [grouped(f"g{i // 3}", origin=f"x:{i}") for i in range(300)]
    for part in split(many, section).values():
        names = [c.groups[0] for c in part]
        assert all(names.count(name) == 3 for name in names)


def name_in(wanted, section):
    """A group's name that falls into the wanted split."""
    for i in range(1000):
        if split([grouped("a"), grouped(f"g{i}"), *rows(50)], section)[wanted].count(
            grouped(f"g{i}")
        ):
            return f"g{i}"
    raise AssertionError(wanted)


def test_a_row_near_both_sides_fits_in_neither_and_moves_no_other():
    section = PrepareSection()
    train, test = name_in("train", section), name_in("test", section)
    old = [grouped(train, origin="x:1"), grouped(test, origin="x:2"), *rows(50)]
    bridge = grouped(train, test, origin="x:3", answer="between")
    splits, rejections = assign_splits([*old, bridge], section)
    assert origins(splits) == origins(split(old, section))
    assert [(r.origin, r.rule, r.text) for r in rejections] == [
        ("x:3", "between_splits", "between")
    ]
    assert rejections[0].reason == (
        "it is near rows of train and test, so on either side it would leak to the other."
    )


def test_a_row_of_two_groups_on_one_side_stays_there():
    section = PrepareSection(validation_size=0, test_size=0)
    both = grouped("g1", "g2", origin="x:3")
    assert split([grouped("g1"), grouped("g2"), both], section)["train"][2] == both


def test_every_stratum_gets_its_share_of_each_split():
    section = PrepareSection(validation_size=0.1, test_size=0.2)
    many = [
        grouped(f"g{i}", origin=f"x:{i}", stratum="rare" if i % 20 == 0 else "usual")
        for i in range(1000)
    ]
    splits = split(many, section)
    for stratum, count in (("rare", 50), ("usual", 950)):
        sizes = [sum(c.stratum == stratum for c in splits[name]) for name in SPLITS]
        assert sizes == [pytest.approx(count * share, abs=2) for share in (0.7, 0.1, 0.2)]


def test_with_strata_rows_added_behind_the_others_move_none():
    section = PrepareSection(validation_size=0.2, test_size=0.2)
    many = [grouped(f"g{i}", origin=f"x:{i}", stratum=str(i % 3)) for i in range(90)]
    before, after = origins(split(many[:60], section)), origins(split(many, section))
    for name in SPLITS:
        assert after[name][: len(before[name])] == before[name]


def numbered(name, number, stratum, origin):
    return grouped(f"{name:016x}/{number}/{stratum}", origin=origin, stratum=stratum)


def test_old_rows_of_a_stratum_stay_where_the_founder_of_a_group_goes_for_a_later_row():
    section = PrepareSection(validation_size=0.3, test_size=0.3)
    old = [numbered(i, i, "rare", f"x:{i}") for i in range(40)]
    better = [numbered(i, i, "rare", f"y:{i}") for i in (0, 7, 20)]
    before = origins(split(old, section))
    after = origins(split([c for i, c in enumerate(old) if i not in (0, 7, 20)] + better, section))
    for name in SPLITS:
        stayed = [o for o in before[name] if o not in ("x:0", "x:7", "x:20")]
        assert [o for o in after[name] if o.startswith("x")] == stayed
        assert {f"y{o[1:]}" for o in before[name]} >= {o for o in after[name] if o[0] == "y"}


@given(
    rows=st.lists(
        st.tuples(st.sets(st.sampled_from("abcdef"), min_size=1), st.sampled_from(["", "s", "t"])),
        max_size=12,
    ),
    validation=st.floats(0, 0.49),
    test=st.floats(0, 0.49),
    seed=st.integers(0, 20),
)
def test_few_rows_of_several_groups_and_strata_are_split_or_named(rows, validation, test, seed):
    many = [
        grouped(*sorted(names), origin=f"x:{i}", stratum=stratum)
        for i, (names, stratum) in enumerate(rows)
    ]
    section = PrepareSection(validation_size=validation, test_size=test, seed=seed)
    splits, rejections = assign_splits(many, section)
    placed = [o for part in origins(splits).values() for o in part]
    assert sorted([*placed, *(r.origin for r in rejections)]) == sorted(c.origin for c in many)
    assert bool(splits["train"]) == bool(many)


@pytest.mark.parametrize(("num_lost", "is_said"), [(1, False), (2, True)])
def test_many_rows_between_splits_are_said(capsys, num_lost, is_said):
    section = PrepareSection()
    train, test = name_in("train", section), name_in("test", section)
    old = [grouped(train), grouped(test), *rows(98)]
    between = [grouped(train, test, origin=f"y:{i}") for i in range(num_lost)]
    capsys.readouterr()
    assign_splits(old[: 100 - num_lost] + between, section)
    assert ("2 of 100 rows are near rows of two splits" in capsys.readouterr().err) == is_said


def test_places_in_a_stratum_are_multiples_of_the_golden_ratio():
    assert GOLDEN == pytest.approx(0.6180339887)
    start = place("rare", 42)
    third = (start + 2 * GOLDEN) % 1
    section = PrepareSection(test_size=0.5, validation_size=0)
    many = [grouped(f"g{i}", origin=f"x:{i}", stratum="rare") for i in range(3)]
    assert (many[2] in split(many, section)["test"]) == (third < 0.5)


@pytest.mark.parametrize(
    "weight, in_train, held_out", [(1.0, {1}, {1}), (3.0, {3}, {1}), (2.5, {2, 3}, {1})]
)
def test_a_row_is_taken_as_often_as_its_weight_says_but_once_if_held_out(
    weight, in_train, held_out
):
    many = [grouped("g", origin=f"x:{i}", weight=weight) for i in range(50)]
    assert {copies(c, 1, held_out=False) for c in many} == in_train
    assert {copies(c, 1, held_out=True) for c in many} == held_out


def test_a_weight_below_one_takes_that_share_of_the_rows_and_always_the_same():
    many = [grouped("g", origin=f"x:{i}", weight=0.25) for i in range(1000)]
    taken = [copies(c, 1, held_out=False) for c in many]
    assert sum(taken) == pytest.approx(250, abs=45)
    assert taken == [copies(c, 1, held_out=True) for c in many]


TENTH = PrepareSection(validation_size=0, test_size=0.1)


def side(name, section):
    """Where a group of this name goes, as long as it is small."""
    at = place(name, section.seed)
    if at < section.test_size:
        return "test"
    return "validation" if at < section.test_size + section.validation_size else "train"


def names_in(wanted, section, count, start=0):
    """So many names of groups that go there."""
    names = (f"n{i}" for i in itertools.count(start))
    return list(itertools.islice((n for n in names if side(n, section) == wanted), count))


def rows_of(*names):
    return [grouped(name, origin=f"{name}:{i}") for i, name in enumerate(names)]


def num_test_rows(num_train, num_test, size):
    """How many rows are in the test split if a group of its own comes behind single rows."""
    *singles, large = names_in("test", TENTH, num_test + 1)
    names = [*names_in("train", TENTH, num_train), *singles, *[large] * size]
    return len(split(rows_of(*names), TENTH)["test"])


def test_a_group_goes_to_training_where_its_split_is_nearer_to_its_share_without_it():
    # 42: 43 of 223 rows; 22.3 should be, which is nearer to 43 than to 1. 43: 44, 1 and 22.4.
    assert num_test_rows(180, 1, 42) == 43
    assert num_test_rows(180, 1, 43) == 1


def test_a_group_of_nine_rows_stays_and_one_of_ten_may_go():
    assert num_test_rows(180, 20, 9) == 29
    assert num_test_rows(180, 20, 10) == 20


def test_a_group_stays_as_long_as_it_is_a_tenth_of_what_its_split_should_have():
    # Of 2,020 rows 202 should be held out, a tenth of which is 20.2; of 2,021 rows 20.21.
    assert num_test_rows(1800, 200, 20) == 220
    assert num_test_rows(1800, 200, 21) == 200


def test_a_group_that_went_to_training_stays_there_when_it_is_no_longer_large():
    names = [*names_in("train", TENTH, 90), *names_in("test", TENTH, 10)]
    large = names_in("test", TENTH, 11)[-1]
    behind = names_in("train", TENTH, 3000, start=10_000)
    splits = split(rows_of(*names, *[large] * 10, *behind), TENTH)
    assert len(splits["test"]) == 10
    assert len(splits["train"]) == 90 + 10 + 3000


def test_an_empty_split_is_not_filled_with_the_group_that_outgrew_it():
    large, *_ = names_in("test", TENTH, 1)
    splits = split(rows_of(*names_in("train", TENTH, 3), *[large] * 50), TENTH)
    assert len(splits["test"]) == 1
    assert splits["test"][0].groups != (large,)


def test_a_group_that_is_all_there_is_trains():
    large, *_ = names_in("test", TENTH, 1)
    assert len(split(rows_of(*[large] * 50), TENTH)["train"]) == 50


@pytest.mark.parametrize(("size", "num_test"), [(9, 10), (10, 1)])
def test_a_group_can_outgrow_the_part_of_a_split_in_its_stratum(size, num_test):
    # 10: of the 51 rows of the stratum 5.1 should be held out, which is nearer to 1 than to 11;
    # of all 551 rows it would be 55.1.
    start = place("rare", TENTH.seed)
    is_test = [(start + number * GOLDEN) % 1 < 0.1 for number in range(100)]
    train = [number for number in range(100) if not is_test[number]][:40]
    alone, large = [number for number in range(100) if is_test[number]][:2]
    usual = rows_of(*names_in("train", TENTH, 500))
    rare = [
        numbered(number, number, "rare", f"x:{i}")
        for i, number in enumerate([*train, alone, *[large] * size])
    ]
    splits = split([*usual, *rare], TENTH)
    assert sum(c.stratum == "rare" for c in splits["test"]) == num_test
    assert len(splits["test"]) == num_test


FIFTHS = PrepareSection(validation_size=0.2, test_size=0.2)
ALONE, *GROWING = zip(*(names_in(wanted, FIFTHS, 3) for wanted in SPLITS), strict=True)


@given(
    names=st.lists(st.sampled_from(sum(GROWING, ())), max_size=99),
    times=st.integers(1, 9),
    share=st.floats(0, 1),
)
def test_what_is_trained_on_is_never_held_out_later_and_groups_stay_whole(names, times, share):
    many = rows_of(*ALONE, *(name for name in names for _ in range(times)))
    splits = split(many, FIFTHS)
    sides = {(c.groups, name) for name in SPLITS for c in splits[name]}
    assert len(sides) == len({groups for groups, _ in sides})
    before = origins(split(many[: 3 + int(share * len(many))], FIFTHS))
    after = origins(splits)
    assert set(before["train"]) <= set(after["train"])
    for name in ("validation", "test"):
        assert set(before[name]) <= {*after[name], *after["train"]}
