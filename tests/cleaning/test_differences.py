"""What tells two nearly equal texts apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.differences import Differences, differences


def changes_meaning(left, right, *, is_short=False):
    return differences(left, right, is_short=is_short).change_meaning


BODY = "患者近期出现发热咳嗽和咽痛，夜间加重，食欲一般，请问{}，家属很担心，想听听医生的意见。"
TEXT = "The patient has had a cough for weeks and asks whether {} before the next visit there."


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("可以吃药", "不可以吃药"),
        ("能吃药", "不能吃药"),
        ("可能吃药", "不能吃药"),
        ("血压升高", "血压降低"),
        ("选甲", "选乙"),
        ("选A", "选B"),
        ("左侧疼痛", "右侧疼痛"),
        ("体温<38", "体温>38"),
        ("服5片", "服15片"),
        ("服用5毫克", "服用5克"),
        ("服用三天", "服用十三天"),
        ("等3天", "等3周"),
    ],
)
def test_a_span_of_chinese_tells(one, other):
    assert changes_meaning(BODY.format(one), BODY.format(other))
    assert changes_meaning(BODY.format(other), BODY.format(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("it is safe", "it is not safe"),
        ("it is safe", "it isn't safe"),
        ("she can go", "she can't go"),
        ("it is possible", "it is impossible"),
        ("the pain is typical", "the pain is atypical"),
        ("pressure is high", "pressure is low"),
        ("it has increased", "it has decreased"),
        ("it is hypertension", "it is hypotension"),
        ("the left arm hurts", "the right arm hurts"),
        ("option A is right", "option B is right"),
        ("vitamin C helps", "vitamin D helps"),
        ("x < 3 holds", "x > 3 holds"),
        ("3 + 4 is right", "3 - 4 is right"),
        ("5 mg is enough", "5 g is enough"),
        ("5 mg is enough", "50 mg is enough"),
        ("0.5 mg is enough", "5 mg is enough"),
        ("it is -5 there", "it is 5 there"),
        ("it is now safe", "it is not safe"),
        ("the careful man came", "the careless man came"),
    ],
)
def test_a_span_of_english_tells(one, other):
    assert changes_meaning(TEXT.format(one), TEXT.format(other))
    assert changes_meaning(TEXT.format(other), TEXT.format(one))


@pytest.mark.parametrize(
    ("text", "one", "other"),
    [
        (BODY, "可以吃药吗", "可已吃药吗"),
        (BODY, "能吃三天药吗", "能吃天药吗"),
        (BODY, "等三天吗", "等三日吗"),
        (BODY, "左侧疼痛", "侧疼痛"),
        (TEXT, "it is not safe", "it is nxt safe"),
        (TEXT, "it is not safe", "it isn't safe"),
        (TEXT, "it is not safe", "IT IS NOT SAFE"),
        (TEXT, "a patient may go", "q patient may go"),
        (TEXT, "the symptoms stay", "the symptomns sty"),
        (TEXT, "a well-known drug", "a well known drug"),
    ],
)
def test_typos_case_and_marks_do_not_tell(text, one, other):
    assert not changes_meaning(text.format(one), text.format(other))
    assert not changes_meaning(text.format(other), text.format(one))


def test_the_number_of_an_item_in_a_list_says_nothing_but_an_amount_does():
    text = "Here is what to do at home:\n1. Rest for 3 days\n2. Drink tea"
    assert not changes_meaning(text, text.replace("\n2.", "\n3."))
    assert changes_meaning(text, text.replace("3 days", "4 days"))


def test_a_negation_that_moves_tells():
    assert changes_meaning("不可以吃鸡蛋，可以喝牛奶。" + BODY, "可以吃鸡蛋，不可以喝牛奶。" + BODY)


def test_a_numeral_that_is_lost_tells_only_in_a_short_text():
    assert changes_meaning("每日两次", "每日次", is_short=True)
    assert not changes_meaning("每日两次", "每日次")


@given(st.text(alphabet="不可以ab 1.<AB3三\n", max_size=30), st.text(max_size=10))
def test_it_is_the_same_both_ways_round_and_never_fails(one, other):
    assert changes_meaning(one, other) == changes_meaning(other, one)
    assert not changes_meaning(one, one)


def test_as_many_slips_as_telling_places_make_a_damaged_copy():
    changed = BODY.format("服5片").replace("，家属", ", 家属")
    assert differences(BODY.format("服3片"), changed) == Differences(1, 0)
    damaged = changed.replace("医生", "医人")
    assert differences(BODY.format("服3片"), damaged) == Differences(1, 1)
    assert changes_meaning(BODY.format("服3片"), changed)
    assert not changes_meaning(BODY.format("服3片"), damaged)


def test_the_differences_of_parts_add_up():
    assert Differences(1, 0) + Differences(1, 3) == Differences(2, 3)
    assert Differences(2, 1).change_meaning
    assert not Differences(0, 0).change_meaning


@pytest.mark.parametrize(
    ("text", "one", "other", "num_telling", "num_slips"),
    [
        # Case and a typo: a letter was changed, lost or won.
        (TEXT, "it is not safe", "It Is Nxt Safe", 0, 1),
        (TEXT, "option B is right", "OPTION b is rigt", 0, 1),
        (TEXT, "vitamin C helps", "VITAMIN c hellps", 0, 1),
        (TEXT, "5 mg is enough", "5 MG is enogh", 0, 1),
        (TEXT, "she can't go", "She Cant Go", 0, 1),
        (TEXT, "a patient may go", "Q Patient may GO", 0, 1),
        (BODY, "选A", "选a", 0, 0),
        (BODY, "HBV阳性", "hbv阳牲", 0, 1),
        # Case and a change of what is said.
        (TEXT, "it is safe", "It Is NOT Safe", 1, 0),
        (TEXT, "it is not safe", "IT IS NOW SAFE", 1, 0),
        (TEXT, "she can't go", "SHE CAN GO", 1, 0),
        (TEXT, "pressure is high", "Pressure is LOW", 1, 0),
        (BODY, "选A", "选b", 1, 0),
        (BODY, "HBV阳性", "hbv阴性", 1, 0),
        # All three: as many slips as changes make a damaged copy ...
        (TEXT, "option A is right", "OPTION B is rigt", 1, 1),
        (TEXT, "5 mg is enough", "5 G is enogh", 1, 1),
        (TEXT, "5 mg is enough", "50 MG is Enogh", 1, 1),
        (TEXT, "pressure is high", "Presure is LOW", 1, 1),
        # ... but a typo right beside a change is part of it, and exchanged letters are no slip.
        (TEXT, "she can't go", "SHE CAN GP", 1, 0),
        (TEXT, "vitamin C helps", "VITAMIN d Hepls", 1, 0),
        (TEXT, "option A is right", "OPTION B is rihgt", 1, 0),
    ],
)
def test_case_and_typos_together_are_counted_as_each_alone(
    text, one, other, num_telling, num_slips
):
    expected = Differences(num_telling, num_slips)
    assert differences(text.format(one), text.format(other)) == expected
    assert differences(text.format(other), text.format(one)) == expected
