import json

from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import IGNORE_INDEX, Conversation, Example, Message, Rejection

calls = st.fixed_dictionaries(
    {"name": st.text(), "arguments": st.dictionaries(st.text(), st.integers() | st.text())}
)


def message(calls_with_ids, **fields):
    ids = tuple(id_ for _, id_ in calls_with_ids)
    return Message(
        **fields,
        tool_calls=tuple(call for call, _ in calls_with_ids),
        call_ids=ids if any(ids) else (),
    )


messages = st.builds(
    message,
    st.lists(st.tuples(calls, st.text(max_size=3)), max_size=2),
    role=st.sampled_from(["system", "user", "assistant", "tool", "text"]),
    content=st.text(),
    input=st.text(),
    reasoning_content=st.text(),
    train=st.booleans(),
    name=st.text(),
    tool_call_id=st.text(),
)
tools = st.builds(lambda name: {"type": "function", "function": {"name": name}}, st.text())
conversations = st.builds(
    Conversation,
    st.lists(messages, min_size=1).map(tuple),
    st.just("raw.csv:2"),
    tools=st.lists(tools, max_size=2).map(tuple),
    groups=st.lists(st.text(), max_size=2).map(tuple),
    stratum=st.text(),
    weight=st.floats(0.01, 1000),
)


@given(conversations)
def test_a_conversation_is_read_back_as_it_was_written(conversation):
    written = json.loads(json.dumps(conversation.as_dict()))
    assert Conversation.from_dict(written) == conversation


def test_what_is_empty_or_usual_is_not_written():
    conversation = Conversation((Message("text", "a"),), "a:2")
    assert conversation.as_dict() == {
        "messages": [{"role": "text", "content": "a"}],
        "origin": "a:2",
    }


def test_calls_and_tools_are_written_in_hugging_faces_form():
    call = {"name": "f", "arguments": {"a": 1}}
    assert Message("assistant", "", tool_calls=(call,)).as_dict() == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": call}],
    }


def test_ids_of_calls_and_whose_result_a_message_is_are_written_where_they_are_given():
    call = {"name": "f", "arguments": {}}
    written = {"type": "function", "function": call}
    calling = Message("assistant", "", tool_calls=(call, call), call_ids=("c1", ""))
    assert calling.as_dict()["tool_calls"] == [{"id": "c1", **written}, written]
    assert Message("tool", "21", name="f", tool_call_id="c1").as_dict() == {
        "role": "tool",
        "content": "21",
        "name": "f",
        "tool_call_id": "c1",
    }
    assert Message("tool", "21").as_dict() == {"role": "tool", "content": "21"}


def test_a_passage_has_no_question():
    conversation = Conversation((Message("text", "a"),), "a:2")
    assert (conversation.question, conversation.answer) == ((), "a")


def test_an_input_is_written_only_where_there_is_one():
    assert Message("user", "q").as_dict() == {"role": "user", "content": "q"}
    assert Message("user", "q", "c").as_dict() == {"role": "user", "content": "q", "input": "c"}


def test_the_answer_is_what_is_said_last_and_the_question_all_before_it():
    turns = (Message("user", "q"), Message("assistant", "a"))
    conversation = Conversation((*turns, *turns[:1], Message("assistant", "b")), "a:2")
    assert conversation.answer == "b"
    assert conversation.question == (*turns, turns[0])


def test_supervised_tokens_are_those_with_a_label():
    assert Example([5, 6, 7], [IGNORE_INDEX, 6, 7], "a:2").num_supervised == 2


def test_a_rejection_is_written_with_rule_reason_and_text():
    assert Rejection("a:2", "echo", "why", "text").as_dict() == {
        "origin": "a:2",
        "rule": "echo",
        "reason": "why",
        "text": "text",
    }


def test_a_conversation_reads_back_from_its_line_of_json():
    conversation = Conversation(
        (Message("user", "问\n", "i"), Message("assistant", "答")), "x:1", groups=("g",), weight=2.0
    )
    line = conversation.as_json()
    assert "问" in line
    assert "\n" not in line
    assert Conversation.from_json(line) == conversation


def test_reasoning_and_a_turn_that_is_not_learned_are_written():
    message = Message("assistant", "b", reasoning_content="so", train=False)
    assert message.as_dict() == {
        "role": "assistant",
        "content": "b",
        "reasoning_content": "so",
        "train": False,
    }


def test_of_all_answers_the_last_can_be_the_only_one_to_learn():
    turns = (Message("user", "a"), Message("assistant", "b"))
    conversation = Conversation(turns * 2, "x:1")
    assert conversation.trained_on("all") is conversation
    last = conversation.trained_on("last")
    assert last.messages == (turns[0], Message("assistant", "b", train=False), *turns)
    quiet = Conversation((turns[0], Message("assistant", "b", train=False)), "x:1")
    assert quiet.trained_on("last") == quiet


def test_answers_apart_end_with_one_each_and_leave_out_what_is_not_learned():
    said = [Message("assistant", text, train=text != "b") for text in "abc"]
    asked = [Message("user", text) for text in "xyz"]
    turns = [message for pair in zip(asked, said, strict=True) for message in pair]
    first, second = Conversation(tuple(turns), "x:1", stratum="s").answers_apart()
    assert first == Conversation(tuple(turns[:2]), "x:1", stratum="s")
    assert [m.train for m in second.messages] == [True, False, True, False, True, True]
    assert [m.content for m in second.messages] == list("xaybzc")
    assert Conversation((Message("text", "a"),), "x:2").answers_apart() == []
