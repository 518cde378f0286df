"""What cleaning rewrote in a row."""

import pytest

from burnish.cleaning.changes import Change, change_lines, repaired_texts
from burnish.cleaning.masking import mask_conversation
from burnish.conversation import Conversation, Message
from burnish.recipe import CleanSection, PrivacySettings


def row(*texts):
    roles = ("user", "assistant") * len(texts)
    return Conversation(tuple(map(Message, roles, texts)), "x:1")


def lines_of(conversation, action):
    privacy = PrivacySettings(action=action)
    repaired, changes = repaired_texts(conversation, CleanSection())
    return change_lines("x:1", changes, mask_conversation(repaired, privacy)[1], privacy)


def test_each_text_that_a_repair_changed_is_named_by_its_field():
    given = Conversation((Message("user", "a  b", "<b>c</b>"), Message("assistant", "d")), "x:1")
    repaired, changes = repaired_texts(given, CleanSection())
    assert [(m.content, m.input) for m in repaired.messages] == [("a b", "c"), ("d", "")]
    assert changes == {
        "messages[0].content": Change("a  b", "a b", ["squeeze_spaces"]),
        "messages[0].input": Change("<b>c</b>", "c", ["strip_html"]),
    }
    clean = row("q", "a")
    assert repaired_texts(clean, CleanSection())[0] is clean


@pytest.mark.parametrize("action", ["off", "detect"])
def test_detect_leaves_the_lines_as_they_are_without_it(action):
    assert lines_of(row("电话  13812345678", "我叫张伟"), action) == [
        {
            "origin": "x:1",
            "field": "messages[0].content",
            "repairs": ["squeeze_spaces"],
            "before": "电话  13812345678",
            "after": "电话 13812345678",
        }
    ]


def test_a_mask_is_a_change_whose_text_before_is_masked_too():
    assert [
        list(line.values())[1:] for line in lines_of(row("我叫张伟", "电话  13812345678"), "mask")
    ] == [
        ["messages[0].content", ["mask_name"], "我叫[姓名]", "我叫[姓名]"],
        [
            "messages[1].content",
            ["squeeze_spaces", "mask_mobile"],
            "电话  [手机号]",
            "电话 [手机号]",
        ],
    ]


def test_a_row_to_drop_has_no_more_lines_than_before_but_no_datum_in_them():
    assert [
        list(line.values())[1:] for line in lines_of(row("我叫张伟", "电话  13812345678"), "drop")
    ] == [["messages[1].content", ["squeeze_spaces"], "电话  [手机号]", "电话 [手机号]"]]


def test_lines_stand_in_the_order_of_the_messages_and_tools_come_last():
    phone = "13812345678"
    call = {"name": "f", "arguments": {"to": phone}}
    messages = [Message("user", phone) for _ in range(11)]
    messages[2] = Message("assistant", phone, tool_calls=(call,))
    lines = lines_of(Conversation(tuple(messages), "x:1", ({"a": phone},)), "mask")
    assert [line["field"] for line in lines] == [
        *(f"messages[{number}].content" for number in range(3)),
        "messages[2].tool_calls[0].arguments.to",
        *(f"messages[{number}].content" for number in range(3, 11)),
        "tools[0].a",
    ]


def test_reasoning_is_repaired_and_its_turn_stays_as_it_was_marked():
    told = Message("assistant", "b", reasoning_content="a  <b>c</b>", train=False)
    given = Conversation((Message("user", "q"), told), "x:1")
    repaired, changes = repaired_texts(given, CleanSection())
    assert repaired.messages[1] == Message("assistant", "b", reasoning_content="a c", train=False)
    assert list(changes) == ["messages[1].reasoning_content"]
