from burnish.conversation import Message
from burnish.templates.tool_marks import mark_tools

TOOL = {"type": "function", "function": {"name": "f", "description": "d"}}
CALL = {"name": "f", "arguments": {"a": 1}}


def test_names_arguments_and_results_become_words_of_their_own():
    turns = [
        Message("user", "q"),
        Message("assistant", "", tool_calls=(CALL, CALL)),
        Message("tool", "r"),
        Message("tool", " "),
        Message("assistant", "let me", tool_calls=(CALL,)),
        Message("assistant", "a"),
    ]
    marked = mark_tools(turns, [TOOL])
    words = [word for _, word in marked.words]
    assert len(set(words)) == len(words) == 1 + 2 * 3 + 1 + 3 + 1
    assert not any(one in other for one in words for other in words if one != other)
    assert marked.tools == [
        {"type": "function", "function": {"name": words[0], "description": "d"}}
    ]
    user, calls, result, empty, beside, answer = marked.messages
    assert (user, empty, answer) == (turns[0], turns[3], turns[5])
    assert calls.tool_calls[0] == {"name": words[3], "arguments": {"a": 1, words[1]: words[2]}}
    assert result == Message("tool", words[7])
    assert beside.content == words[11]


def test_the_kind_of_what_is_missing_is_named():
    marked = mark_tools([Message("tool", "r")], [TOOL])
    (_, tool), (_, result) = marked.words
    assert marked.not_in(f"{tool} {result}") is None
    assert marked.not_in(tool) == "tool results"
    assert marked.not_in(result) == "tools"


def test_a_conversation_without_tools_has_no_words():
    turns = [Message("user", "q", "c"), Message("assistant", "a")]
    marked = mark_tools(turns, [])
    assert (marked.messages, marked.tools, marked.words) == (turns, [], [])
