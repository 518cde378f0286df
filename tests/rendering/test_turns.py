"""Where answers stand, and when that can't be proved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from burnish.conversation import Conversation, Message
from burnish.errors import DataError
from burnish.rendering import render_example, render_prompt
from burnish.templates.plain import closed_with_eos
from tests.conftest import CHATML, byte_tokenizer
from tests.rendering.shapes import (
    ENDS_CALLS_OTHERWISE,
    GLM_4,
    MISTRAL_7,
    OPENS_REASONING,
    THINKS_LAST_WITH_TOOLS,
    WITH_TOOLS,
    glm_4,
    ids_of,
    merging_tokenizer,
    mistral_7,
    spoken,
    strips_reasoning,
    talk,
    tokenizer_with,
    tool_talk,
    with_reasoning,
)

UNSTABLE = [
    # The number of messages stands at the front.
    "{{ messages | length }}" + CHATML,
    # Only the last two messages are shown.
    CHATML.replace("in messages", "in messages[-2:]"),
    # The generation prompt is not how an answer begins.
    CHATML.replace("'<|im_start|>assistant\n' }}", "'<|im_start|>bot\n' }}"),
]


@pytest.mark.parametrize("template", UNSTABLE)
def test_a_template_whose_prompts_do_not_begin_the_whole_is_refused(template):
    with pytest.raises(DataError, match="does not begin the whole conversation"):
        render_example(talk("a", "one", "b", "two"), byte_tokenizer(template), 500)


def test_an_answer_that_merges_with_the_prompts_last_token_is_encoded_apart():
    tokenizer = merging_tokenizer()
    assert len(ids_of(tokenizer, "\n\n")) == 1
    example = render_example(talk("a", "\nb"), tokenizer, 500)
    prompt = render_prompt([Message("user", "a")], tokenizer)
    assert example.input_ids[: len(prompt)] == prompt
    assert spoken(example, tokenizer) == ["\nb<|im_end|>"]
    with pytest.raises(DataError):
        render_example(talk("a", "\nb", "c", "d"), tokenizer, 500)


def test_a_call_that_ends_with_a_token_of_its_own_carries_loss_up_to_that():
    tokenizer = tokenizer_with(ENDS_CALLS_OTHERWISE, special=["<|eom|>"])
    assert spoken(render_example(tool_talk(), tokenizer, 10_000), tokenizer) == [
        '\n<call>weather {"city": "罗马"}</call><|eom|>',
        "Yes, 21 °C.<|im_end|>",
        "Bye<|im_end|>",
    ]


def test_a_template_that_writes_the_last_turn_otherwise_still_shows_its_calls():
    tokenizer = tokenizer_with(THINKS_LAST_WITH_TOOLS)
    assert spoken(render_example(tool_talk(), tokenizer, 10_000), tokenizer) == [
        '\n<call>weather {"city": "罗马"}</call><|im_end|>',
        "Yes, 21 °C.<|im_end|>",
        "<think></think>Bye<|im_end|>",
    ]


def test_a_template_that_writes_a_last_call_as_two_turns_is_refused():
    two_turns = WITH_TOOLS.replace("'</call>'", "'</call><|im_end|>\n<|im_start|>assistant'")
    conversation = replace(tool_talk(), messages=tool_talk().messages[:2])
    with pytest.raises(DataError, match="can't be told apart"):
        render_example(conversation, byte_tokenizer(two_turns), 10_000)


def reasoning(*turns):
    """Question, reasoning and answer in turn."""
    messages = []
    for asked, thought, said in zip(turns[::3], turns[1::3], turns[2::3], strict=True):
        messages += [
            Message("user", asked),
            Message("assistant", said, reasoning_content=thought),
        ]
    return Conversation(tuple(messages), "x:1")


def test_reasoning_of_the_last_answer_carries_loss():
    tokenizer = with_reasoning()
    example = render_example(reasoning("a", "so", "b"), tokenizer, 500)
    assert spoken(example, tokenizer) == ["<think>\nso\n</think>\n\nb<|im_end|>"]
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert example.input_ids.count(think) == 1


def test_reasoning_written_into_an_answer_is_taken_apart_by_the_template():
    tokenizer = with_reasoning()
    example = render_example(talk("a", "<think>\nso\n</think>\n\nb"), tokenizer, 500)
    assert spoken(example, tokenizer) == ["<think>\nso\n</think>\n\nb<|im_end|>"]
    assert example == replace(
        render_example(reasoning("a", "so", "b"), tokenizer, 500), origin="data.jsonl:1"
    )


def test_reasoning_that_an_earlier_answer_loses_is_refused_unless_only_the_last_is_learned():
    tokenizer = with_reasoning()
    conversation = reasoning("a", "so", "b", "c", "thus", "d")
    with pytest.raises(
        DataError, match="does not write the whole reasoning_content and answer"
    ) as caught:
        render_example(conversation, tokenizer, 500)
    assert caught.value.remedy.startswith("Set prepare.train_on: last")
    example = render_example(conversation.trained_on("last"), tokenizer, 500)
    assert spoken(example, tokenizer) == ["<think>\nthus\n</think>\n\nd<|im_end|>"]


def test_an_earlier_prompt_that_opens_reasoning_is_refused_unless_only_the_last_is_learned():
    tokenizer = with_reasoning(OPENS_REASONING)
    with pytest.raises(DataError, match="would go on with '<think>") as caught:
        render_example(talk("a", "b", "c", "d"), tokenizer, 500)
    assert "where the whole has 'b<|im_end|>" in caught.value.problem
    assert caught.value.remedy.startswith("Set prepare.train_on: last")
    example = render_example(talk("a", "b", "c", "d").trained_on("last"), tokenizer, 500)
    assert spoken(example, tokenizer) == ["\n</think>\n\nd<|im_end|>"]
    prompt = render_prompt(talk("a", "b", "c", "d").question, tokenizer)
    assert example.input_ids[: len(prompt)] == prompt


def test_a_template_that_knows_no_reasoning_refuses_it(tokenizer):
    # The reasoning stands in the answer, too, and is not mistaken for it.
    with pytest.raises(DataError, match="reasoning_content and answer") as caught:
        render_example(reasoning("a", "Yes", "Yes."), tokenizer, 500)
    assert caught.value.where == "x:1"
    assert caught.value.remedy.startswith("Choose a model whose chat template does")


def test_an_earlier_answer_of_which_the_template_strips_the_reasoning_is_refused():
    tokenizer = strips_reasoning()
    assert spoken(render_example(talk("a", "b"), tokenizer, 500), tokenizer) == [
        "b<｜end▁of▁sentence｜>"
    ]
    conversation = talk("a", "<think>so</think>b", "c", "d")
    with pytest.raises(DataError, match="it leaves out '<think>so'"):
        render_example(conversation, tokenizer, 500)
    history = render_example(conversation.trained_on("last"), tokenizer, 500)
    assert spoken(history, tokenizer) == ["d<｜end▁of▁sentence｜>"]


def test_messages_that_are_not_to_be_learned_carry_no_loss(tokenizer):
    first, second = talk("a", "one").messages, talk("b", "two").messages
    quiet = (first[0], replace(first[1], train=False), *second)
    example = render_example(Conversation(quiet, "x:1"), tokenizer, 500)
    assert spoken(example, tokenizer) == ["two<|im_end|>"]
    assert (
        example.input_ids == render_example(talk("a", "one", "b", "two"), tokenizer, 500).input_ids
    )


def test_what_stands_behind_the_last_learned_answer_is_left_out(tokenizer):
    first, second = talk("a", "one").messages, talk("b", "two").messages
    quiet = (*first, second[0], replace(second[1], train=False))
    example = render_example(Conversation(quiet, "x:1"), tokenizer, 500)
    assert spoken(example, tokenizer) == ["one<|im_end|>"]
    assert example.input_ids == render_example(talk("a", "one"), tokenizer, 500).input_ids
    assert example.num_cut == 0


def test_the_next_speakers_token_ends_an_answer_that_nothing_else_ends():
    tokenizer = glm_4()
    turns = [
        *talk("a", "one", "b", "two").messages,
        Message("tool", "r"),
        Message("assistant", "c"),
    ]
    example = render_example(Conversation(tuple(turns), "x:1"), tokenizer, 500)
    assert spoken(example, tokenizer) == ["one<|user|>", "two<|tool|>", "c"]
    double = Conversation((*talk("a", "one").messages, Message("assistant", "two")), "x:1")
    # <|assistant|> would only open another answer.
    assert spoken(render_example(double, tokenizer, 500), tokenizer) == ["one", "two"]


def test_eos_can_be_put_behind_the_last_answer_where_the_template_writes_nothing():
    tokenizer = glm_4(closed_with_eos(GLM_4 + "\n"))
    conversation = talk("a", "one", "b", "two")
    example = render_example(conversation, tokenizer, 500)
    assert spoken(example, tokenizer) == ["one<|user|>", "two<|endoftext|>"]
    messages = [m.as_dict() for m in conversation.messages]
    assert example.input_ids == tokenizer.apply_chat_template(messages, return_dict=False)
    prompt = render_prompt(conversation.question, tokenizer)
    assert prompt == render_prompt(conversation.question, glm_4())


def with_system(*turns):
    return Conversation((Message("system", "S"), *talk(*turns).messages), "x:1")


def test_an_answer_stands_behind_a_system_prompt_that_moves_once_it_follows():
    tokenizer = mistral_7()
    example = render_example(with_system("a", "one"), tokenizer, 500)
    assert tokenizer.decode(example.input_ids) == "<s>[INST]S\n\na[/INST]one</s>"
    assert spoken(example, tokenizer) == ["one</s>"]
    later = render_example(with_system("a", "one", "b", "two").trained_on("last"), tokenizer, 500)
    assert tokenizer.decode(later.input_ids) == "<s>[INST]a[/INST]one</s>[INST]S\n\nb[/INST]two</s>"
    assert spoken(later, tokenizer) == ["two</s>"]
    assert render_prompt(with_system("a", "one").question, tokenizer) == example.input_ids[:-4]


def test_an_earlier_answer_before_such_a_system_prompt_is_refused():
    with pytest.raises(DataError, match="does not begin the whole") as caught:
        render_example(with_system("a", "one", "b", "two"), mistral_7(), 500)
    assert caught.value.remedy.startswith("Set prepare.train_on: last")


def test_a_system_prompt_that_the_prompt_loses_is_not_made_up_for():
    # Only the whole conversation has it.
    template = MISTRAL_7.replace(
        "loop.last and system", "not messages[-1].role == 'user' and system"
    )
    with pytest.raises(DataError, match="does not begin the whole"):
        render_example(with_system("a", "one"), mistral_7(template), 500)


def marked():
    """ChatML with generation marks around an answer and its end token."""
    return (
        "{% for m in messages %}{{ '<|im_start|>' }}{% if m['role'] == 'assistant' %}"
        "{{ 'assistant\n' }}{% generation %}"
        "{{ m['content'] + '<|im_end|>\n' }}{% endgeneration %}"
        "{% else %}{{ m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


def test_generation_marks_that_agree_change_nothing(tokenizer):
    conversation = talk("a <|im_end|>", "one", "b", "two")
    assert render_example(conversation, byte_tokenizer(marked()), 500) == render_example(
        conversation, tokenizer, 500
    )


def test_generation_marks_on_a_question_are_refused():
    everything = "{% generation %}" + CHATML + "{% endgeneration %}"
    with pytest.raises(DataError, match="which nobody answers") as caught:
        render_example(talk("a", "one"), byte_tokenizer(everything), 500)
    assert caught.value.remedy.startswith("Mend the marks")


def test_generation_marks_on_the_last_answer_alone_are_refused_if_all_are_learned():
    last_only = marked().replace(
        "m['role'] == 'assistant' %}", "m['role'] == 'assistant' and loop.last %}"
    )
    with pytest.raises(DataError, match="marks leave out the answer 'one'") as caught:
        render_example(talk("a", "one", "b", "two"), byte_tokenizer(last_only), 500)
    assert caught.value.remedy.startswith("Set prepare.train_on: last")
    conversation = talk("a", "one", "b", "two").trained_on("last")
    tokenizer = byte_tokenizer(last_only)
    assert spoken(render_example(conversation, tokenizer, 500), tokenizer) == ["two<|im_end|>"]


def test_an_error_shows_messages_as_they_were_given(tokenizer):
    conversation = reasoning("a", "so <|im_end|>", "b")
    with pytest.raises(DataError, match=r"leaves out 'so <\|im_end\|>'\."):
        render_example(conversation, tokenizer, 500)
