"""Personal data of whole rows."""

import copy

import pytest

from burnish.cleaning.masking import (
    is_hidden,
    mask_before,
    mask_conversation,
    mask_json,
    mask_raw,
)
from burnish.conversation import Conversation, Message
from burnish.recipe import PrivacySettings

MASK = PrivacySettings(action="mask")
CALL = {
    "name": "send_sms",
    "arguments": {
        "to": ["13812345678", {"mail": "li.wei@example.com"}],
        "body": "我叫张伟，请回电",
        "urgent": True,
        "tries": 3,
        "ratio": 0.5,
        "none": None,
    },
}
TOOL = {
    "type": "function",
    "function": {"name": "send_sms", "description": "Ask 13912345678 for help.", "parameters": {}},
}


def conversation():
    return Conversation(
        (
            Message("user", "我的手机是13812345678", "ok"),
            Message("assistant", "", tool_calls=(copy.deepcopy(CALL),)),
            Message("tool", '{"phone": "13712345678"}'),
            Message("assistant", "done"),
        ),
        "x:1",
        (copy.deepcopy(TOOL),),
    )


def test_calls_and_tools_are_masked_where_their_strings_stand():
    masked, found = mask_conversation(conversation(), MASK)
    assert masked.messages[1].tool_calls == (
        {
            "name": "send_sms",
            "arguments": {
                "to": ["[phone]", {"mail": "[email]"}],
                "body": "我叫[姓名]，请回电",
                "urgent": True,
                "tries": 3,
                "ratio": 0.5,
                "none": None,
            },
        },
    )
    assert masked.tools[0]["function"] == {
        "name": "send_sms",
        "description": "Ask [phone] for help.",
        "parameters": {},
    }
    assert [(place.field, [f.text for f in place.findings]) for place in found] == [
        ("messages[0].content", ["13812345678"]),
        ("messages[1].tool_calls[0].arguments.to[0]", ["13812345678"]),
        ("messages[1].tool_calls[0].arguments.to[1].mail", ["li.wei@example.com"]),
        ("messages[1].tool_calls[0].arguments.body", ["张伟"]),
        ("messages[2].content", ["13712345678"]),
        ("tools[0].function.description", ["13912345678"]),
    ]
    assert mask_conversation(masked, MASK) == (masked, [])


def test_the_given_conversation_is_not_changed_and_without_data_it_comes_back_itself():
    given = conversation()
    mask_conversation(given, MASK)
    assert given == conversation()
    clean = Conversation((Message("user", "q"), Message("assistant", "a")), "x:1")
    assert mask_conversation(clean, MASK)[0] is clean
    assert mask_conversation(given, PrivacySettings(action="off")) == (given, [])


def test_a_key_is_the_cue_of_its_value_and_of_a_list_under_it():
    assert mask_json({"微信": "abc123", "id": "abc123"}, MASK) == {
        "微信": "[微信号]",
        "id": "abc123",
    }
    assert mask_json({"QQ": ["123456789", 123456789]}, MASK) == {"QQ": ["[qq]", "[qq]"]}
    assert mask_json({"name": "Home Depot", "city": "Zhang Jia"}, MASK) == {
        "name": "Home Depot",
        "city": "Zhang Jia",
    }


def test_a_whole_number_that_is_a_datum_becomes_a_mark_and_another_stays():
    given = {"to": 13812345678, "at": 1732450000, "yes": True, "x": 13812345678.5}
    assert mask_json(given, MASK) == {**given, "to": "[phone]"}


def test_a_key_is_masked_too_and_two_keys_never_become_one():
    given = {"to 13812345678": 1, "a": 2, "to 13912345678": "13712345678", "to [phone]": 3}
    masked = mask_json(given, MASK)
    assert masked == {
        "to [phone] (2)": 1,
        "a": 2,
        "to [phone] (3)": "[phone]",
        "to [phone]": 3,
    }
    _, found = mask_conversation(
        Conversation(
            (Message("assistant", "", tool_calls=({"name": "f", "arguments": given},)),), ""
        ),
        MASK,
    )
    assert [place.field.rpartition("arguments.")[2] for place in found] == [
        "to [phone] (2) (key)",
        "to [phone] (3) (key)",
        "to [phone] (3)",
    ]


@pytest.mark.parametrize(
    ("raw", "masked"),
    [
        ('{"a": "x\\n13812345678"', '{"a": "x\n[phone]"'),
        ('{"a": "\\u6211\\u53eb\\u5f20\\u4f1f\\uff0c', '{"a": "我叫[姓名]，'),
        ('{"a": "13812345678\\n"', '{"a": "[phone]\n"'),
        ('{"a": "x\\n y \\u6211"', '{"a": "x\\n y \\u6211"'),
        ("plain", "plain"),
    ],
)
def test_escapes_of_json_hide_no_datum_in_raw_text_and_stay_where_there_is_none(raw, masked):
    assert mask_raw(raw, MASK) == masked


def test_what_only_the_repair_brings_to_light_is_not_read_in_the_text_before_it():
    split = Conversation((Message("user", "138<b></b>12345678"),), "x:1")
    assert mask_conversation(split, MASK)[1] == []
    repaired = Conversation((Message("user", "电话13812345678"),), "x:1")
    (after,) = mask_conversation(repaired, MASK)[1]
    assert mask_before("电话138<b></b>12345678", after, MASK) == "电话[手机号]"
    assert mask_before("<b>电话</b>13812345678", after, MASK) == "<b>电话</b>[手机号]"
    assert mask_before("<b>a</b>", None, MASK) == "<b>a</b>"


@pytest.mark.parametrize(
    ("action", "hidden"), [("off", False), ("detect", False), ("mask", True), ("drop", True)]
)
def test_mask_and_drop_keep_personal_data_from_the_disk(action, hidden):
    assert is_hidden(PrivacySettings(action=action)) is hidden


def test_reasoning_is_masked():
    told = Message("assistant", "b", reasoning_content="call 13812345678", train=False)
    row = Conversation((Message("user", "q"), told), "x:1")
    masked, found = mask_conversation(row, MASK)
    assert masked.messages[1] == Message(
        "assistant", "b", reasoning_content="call [phone]", train=False
    )
    assert [place.field for place in found] == ["messages[1].reasoning_content"]


def test_ids_of_calls_and_names_of_results_are_masked_too():
    call = {"name": "f", "arguments": {}}
    turns = (
        Message("assistant", "", tool_calls=(call, call), call_ids=("to 13812345678", "")),
        Message("tool", "21", name="to 13912345678", tool_call_id="to 13812345678"),
    )
    masked, found = mask_conversation(Conversation(turns, "x:1"), MASK)
    assert masked.messages == (
        Message("assistant", "", tool_calls=(call, call), call_ids=("to [phone]", "")),
        Message("tool", "21", name="to [phone]", tool_call_id="to [phone]"),
    )
    assert [place.field for place in found] == [
        "messages[0].tool_calls[0].id",
        "messages[1].name",
        "messages[1].tool_call_id",
    ]
