from hypothesis import given
from hypothesis import strategies as st

from burnish.conversation import IGNORE_INDEX, Conversation, Example, Message, Rejection

messages = st.builds(
    Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.text(), st.text()
)
conversations = st.builds(
    Conversation, st.lists(messages, min_size=1).map(tuple), st.just("raw.csv:2")
)


@given(conversations)
def test_a_conversation_is_read_back_as_it_was_written(conversation):
    assert Conversation.from_dict(conversation.as_dict()) == conversation


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
