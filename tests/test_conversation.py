import json

from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import IGNORE_INDEX, Conversation, Example, Message, Rejection

calls = st.fixed_dictionaries(
    {"name": st.text(), "arguments": st.dictionaries(st.text(), st.integers() | st.text())}
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool", "text"]),
    st.text(),
    st.text(),
    st.lists(calls, max_size=2).map(tuple),
    st.text(),
    st.booleans(),
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
