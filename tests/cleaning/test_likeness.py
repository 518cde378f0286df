import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.likeness import (
    LONG_TEXT,
    MOST_HELD,
    Likeness,
    RowParts,
    asks_the_same,
    belong_together,
    grams,
    jaccard_of,
    similarity,
)

LONG = (
    "患者男，十五岁，三天前出现发热、咳嗽和咽痛，自行服用感冒药后体温仍有反复，夜间咳嗽明显加重，"
    "伴有少量白色黏痰，没有胸闷和气促，食欲一般，大小便正常，既往身体健康，没有药物过敏史。"
)
ADVICE = "建议到医院查血常规和胸片，多饮水，注意休息，饮食清淡，体温超过三十八度五时服用退热药。"


def alike(question, answer, other_question, other_answer, threshold=0.6):
    left, right = RowParts(question, answer), RowParts(other_question, other_answer)
    found = similarity(left, right, threshold)
    assert found == similarity(right, left, threshold)
    return found is not None


def test_the_jaccard_of_two_texts_is_worked_out_by_hand():
    # abcd bcde cdef | abcd bcde cdeg: two of four.
    assert jaccard_of("abcdef", "abcdeg", 4) == 0.5
    # ab bc | bc cd: one of three.
    assert jaccard_of("abc", "bcd", 2) == pytest.approx(1 / 3)
    # A gram counts once: {aa} | {aa, ab}.
    assert jaccard_of("aaaa", "aaab", 2) == 0.5
    assert jaccard_of("abcd", "wxyz", 4) == 0.0


def test_a_text_shorter_than_a_gram_is_one():
    assert grams("ab", 4) == {"ab"}
    assert grams("", 4) == {""}
    assert jaccard_of("ab", "ab", 4) == 1.0
    assert jaccard_of("ab", "", 4) == 0.0


def test_long_rows_are_compared_by_their_4_grams():
    # 130 different letters make 127 grams, the first 100 of them 97.
    text = "".join(chr(0x4E00 + i) for i in range(130))
    other = text[:100] + "".join(chr(0x5E00 + i) for i in range(30))
    assert jaccard_of(text, other, 4) == pytest.approx(97 / 157)
    left, right = RowParts(text, ""), RowParts(text[:129], "")
    assert similarity(left, right, 0.6) == pytest.approx(126 / 127)


def test_short_rows_are_compared_by_their_bigrams():
    # 9 bigrams and 10, one letter added.
    assert similarity(
        RowParts("", "甲乙丙丁戊己庚辛壬癸"), RowParts("", "甲乙丙丁戊己庚辛壬癸了"), 0.6
    ) == (pytest.approx(9 / 10))


@pytest.mark.parametrize(
    ("answer", "other"),
    [
        ("可以", "不可以"),
        ("是", "否"),
        ("是的，可以服用这种药。", "是的，不可以服用这种药。"),
        ("每日2次", "每日3次"),
        ("每次一片，每日两次", "每次一片，每日三次"),
        ("应该在饭前服用这种药物", "应该在饭后服用这种药物"),
        ("正确答案是选项B", "正确答案是选项C"),
        ("这位病人得的是高血压病", "这位病人得的是低血压病"),
        ("服用剂量是2.5毫克", "服用剂量是25毫克"),
        ("高血压", "低血压"),
        ("The answer is B.", "The answer is C."),
        ("It is safe in pregnancy.", "It is not safe in pregnancy."),
        ("You can take it.", "You can't take it."),
        ("Take it twice a day.", "Take it once a day."),
        ("x > 3", "x < 3"),
    ],
)
def test_a_repeated_question_with_another_short_answer_is_no_duplicate(answer, other):
    assert not alike(LONG * 3, answer, LONG * 3, other)


@pytest.mark.parametrize(
    ("answer", "other"),
    [
        ("建议您多喝水，注意休息。", "建义您多喝水，注意休息。"),
        ("建议您多喝水，注意休息。", "建议多喝水, 注意休息"),
        ("可以", "可以，谢谢！"),
        ("可以服用", "您好，可以服用。祝您健康！"),
        ("The Eiffel Tower", "the eiffel towr"),
        ("It isn't safe.", "It is not safe."),
        ("Paris", "Paris. Hope this helps!"),
        ("左侧卧位比较好一些", "侧卧位比较好一些"),
    ],
)
def test_a_short_answer_with_a_typo_or_a_polite_word_is_a_duplicate(answer, other):
    assert alike(LONG * 3, answer, LONG * 3, other)


@pytest.mark.parametrize(
    ("question", "other"),
    [
        ("感冒怎么办？", "发烧怎么办？"),
        ("糖尿病患者平时饮食需要注意哪些问题呢，请医生指点一下？",
         "高血压患者平时饮食需要注意哪些问题呢，请医生指点一下？"),
        ("What are the symptoms of measles in children?",
         "What are the symptoms of whooping cough in children?"),
        ("一位60岁男性因皮肤干燥、心跳缓慢就诊，应该怎样治疗和护理？",
         "一位40岁男性因皮肤干燥、心跳缓慢就诊，应该怎样治疗和护理？"),
    ],
)  # fmt: skip
def test_one_answer_to_two_questions_is_no_duplicate(question, other):
    assert not alike(question, ADVICE * 3, other, ADVICE * 3)


def test_typos_in_question_and_answer_are_a_duplicate():
    question = LONG.replace("咳嗽", "咳漱", 1).replace("既往", "即往")
    assert alike(LONG, ADVICE, question, ADVICE.replace("清淡", "清谈") + "祝您健康！")


def test_a_negated_question_is_another_one_whatever_the_answer():
    asked, negated = "高血压患者可以吃鸡蛋吗？", "高血压患者不可以吃鸡蛋吗？"
    assert not alike(asked, "", negated, "")
    assert not alike(asked, LONG, negated, LONG)


def test_one_row_in_a_system_prompt_of_another_kind_is_no_duplicate():
    prompt, other = "你是一位耐心的儿科医生。", "Answer as a pirate would."
    left, right = RowParts(LONG, ADVICE, system=prompt), RowParts(LONG, ADVICE, system=other)
    assert similarity(left, right, 0.6) is None
    assert similarity(left, left, 0.6) == 1.0


def test_a_long_system_prompt_that_all_rows_share_makes_none_of_them_alike():
    left = RowParts("头痛怎么办？", "多休息。", system=LONG)
    assert similarity(left, RowParts("牙痛怎么治？", "看牙医。", system=LONG), 0.6) is None


def test_the_threshold_decides():
    other = LONG.replace("三天前", "三日前").replace("夜间", "夜里").replace("一般", "还好")
    assert alike(LONG, ADVICE, other, ADVICE, threshold=0.6)
    assert not alike(LONG, ADVICE, other, ADVICE, threshold=0.95)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("可以", "不可以"),
        ("升高", "降低"),
        ("选A", "选B"),
        ("<38", ">38"),
        ("5 mg", "5 g"),
        ("5", "50"),
    ],
)
def test_a_long_answer_or_question_that_says_the_reverse_is_no_duplicate(part, other):
    one, two = f"{ADVICE}{part}，{ADVICE}", f"{ADVICE}{other}，{ADVICE}"
    assert not alike(LONG, one, LONG, two)
    assert not alike(one, LONG, two, LONG)
    assert belong_together(RowParts(LONG, one), RowParts(LONG, two), 0.6)


def test_rows_that_share_too_little_do_not_belong_together():
    assert not belong_together(RowParts("头痛怎么办？", ADVICE), RowParts("牙痛？", LONG), 0.6)


def test_long_texts_have_the_same_jaccard_by_arrays_as_by_sets():
    draw = random.Random(2)
    text = "".join(draw.choices("abcdefgh", k=LONG_TEXT))
    other = text[:3000] + "".join(draw.choices("efghijk", k=LONG_TEXT - 3000))
    ours, theirs = grams(text, 4), grams(other, 4)
    assert jaccard_of(text, other, 4) == len(ours & theirs) / len(ours | theirs)


def test_few_texts_are_held_where_they_are_long():
    read = []

    def text_of(row):
        read.append(row)
        return RowParts("q", "x" * (MOST_HELD // 2))

    like = Likeness(text_of, 0.6)
    assert like(0, 1) == 1.0
    like(1, 2)
    assert read == [0, 1, 2]
    like(0, 2)
    assert read == [0, 1, 2, 0]


@given(st.text(), st.text(), st.text(), st.text())
def test_likeness_is_symmetric_and_never_fails(question, answer, other_question, other_answer):
    alike(question, answer, other_question, other_answer)
    assert similarity(RowParts(question, answer), RowParts(question, answer), 1.0) == 1.0


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (
            "What should I do about a cough that lasts for weeks?",
            "What should I do about a caugh that lasts for weeks?",
            True,
        ),
        (
            "What should I do about a cough that lasts for weeks?",
            "What should I do about a stomach ache after meals?",
            False,
        ),
        (
            "Question 9 of the long examination paper?",
            "Question 12 of the long examination paper?",
            False,
        ),
        ("What is 3 + 4?", "What is 3 - 4?", False),
        ("", "", False),
    ],
)
def test_only_long_questions_with_the_same_numbers_are_nearly_the_same(left, right, same):
    assert asks_the_same(RowParts(left, "Yes."), RowParts(right, "No."), 0.6) == same
