"""Tokenizers whose templates have the shape of known families, and conversations to render."""

from __future__ import annotations

from burnish.conversation import IGNORE_INDEX, Conversation, Message
from burnish.templates.plain import PLAIN_TEMPLATES
from tests.conftest import CHATML, byte_tokenizer

START, END = 1, 2


LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


GEMMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant') }}"
    "{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)


CLOSED_WITH_EOS = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] "
    "+ '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)


THINKS_LAST = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer_with(template, *, bos="<|im_start|>", eos="<|im_end|>", special=(), plain=()):
    """The byte tokenizer with more control tokens, `plain` ones not marked as special."""
    from tokenizers import AddedToken

    tokenizer = byte_tokenizer(template)
    tokens = [AddedToken(name, special=True) for name in special]
    tokenizer.add_tokens([*tokens, *(AddedToken(name, special=False) for name in plain)])
    tokenizer.bos_token, tokenizer.eos_token = bos, eos
    return tokenizer


def of_shape(name):
    """A tokenizer whose template has the shape of a known family."""
    match name:
        case "chatml":
            return byte_tokenizer()
        case "llama_3":
            special = ["<bos>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<eos>"]
            return tokenizer_with(LLAMA_3, bos="<bos>", eos="<eos>", special=special)
        case "gemma":
            special = ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
            return tokenizer_with(GEMMA, bos="<bos>", eos="<eos>", special=special)
        case "llama_2":
            return tokenizer_with(LLAMA_2, bos="<s>", eos="</s>", special=["<s>", "</s>"])
        case "closed_with_eos":
            special = ["<|user|>", "<|assistant|>", "<|system|>"]
            return tokenizer_with(
                CLOSED_WITH_EOS, eos="<|endoftext|>", special=special, plain=["<|end|>"]
            )
        case "thinks_last":
            return tokenizer_with(THINKS_LAST, plain=["<think>", "</think>"])
    return byte_tokenizer(PLAIN_TEMPLATES[name])


SHAPES = [
    "chatml",
    "llama_3",
    "gemma",
    "llama_2",
    "closed_with_eos",
    "thinks_last",
    "plain_zh",
    "plain_en",
]


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def talk(*turns, origin="data.jsonl:1"):
    """A conversation of user and assistant in turn."""
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(turns))
    return Conversation(messages, origin)


def spoken(example, tokenizer):
    """The runs of tokens that carry loss, as text."""
    runs, open_ = [], False
    for token, label in zip(example.input_ids, example.labels, strict=True):
        if label == IGNORE_INDEX:
            open_ = False
            continue
        assert label == token
        if not open_:
            runs.append([])
        open_ = True
        runs[-1].append(token)
    return [tokenizer.decode(run) for run in runs]


def merging_tokenizer(letter="Ċ"):
    """The byte tokenizer with one merge: two such letters (Ċ is a line break) are one token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    names = [*control, *sorted(pre_tokenizers.ByteLevel.alphabet()), letter * 2]
    vocab = {token: index for index, token in enumerate(names)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[(letter, letter)]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in control])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.chat_template = CHATML
    return tokenizer


def sentencepiece_tokenizer(template):
    """A tokenizer in the manner of Llama 2: ▁ for blanks, one before the text, bytes behind."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = [chr(c) for c in range(33, 127)]
    words = ["▁", *letters, "指", "令", "响", "应", "头", "痛"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words, "▁a", "▁o"]
    backend = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(names)},
            merges=[("▁", "a"), ("▁", "o")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens([AddedToken(t, special=True) for t in ("<s>", "</s>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = template
    return tokenizer


WITH_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '\n<call>' + call['function']['name'] + ' ' + (call['function']['arguments'] | tojson) }}"
    "{{ '</call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


ENDS_CALLS_OTHERWISE = WITH_TOOLS.replace(
    "{{ '<|im_end|>\n' }}{% endfor %}",
    "{{ '<|eom|>' if message['tool_calls'] else '<|im_end|>\n' }}{% endfor %}",
)


THINKS_LAST_WITH_TOOLS = WITH_TOOLS.replace(
    "{{ message['content'] }}",
    "{% if loop.last and message['role'] == 'assistant' %}{{ '<think></think>' }}{% endif %}"
    "{{ message['content'] }}",
)


TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}},
}


CALL = {"name": "weather", "arguments": {"city": "罗马"}}


def tool_talk(*, call=CALL, result='{"celsius": 21}', words="", tool=TOOL):
    """A question, a call, its result and an answer; then a second question with its answer."""
    turns = (
        Message("user", "Is it warm?"),
        Message("assistant", words, tool_calls=(call,)),
        Message("tool", result),
        Message("assistant", "Yes, 21 °C."),
        *talk("Thanks", "Bye").messages,
    )
    return Conversation(turns, "tools.jsonl:1", tools=(tool,))


def own_text(conversation, tokenizer, **options):
    return tokenizer.apply_chat_template(
        [m.as_dict() for m in conversation.messages],
        tools=list(conversation.tools),
        tokenize=False,
        **options,
    )


QWEN_3 = (
    "{% set ns = namespace(last=messages | length) %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% set content, thought = message['content'], message['reasoning_content'] or '' %}"
    "{% if message['role'] == 'assistant' %}{% if '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{% endif %}"
    "{{ content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Reasoning goes with the answers to the last question alone; the last answer has a block of it."""

OPENS_REASONING = QWEN_3.replace(
    "{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}"
)
"""The same with a prompt that opens the block, as Qwen3-Thinking's."""

STRIPS_REASONING = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '<｜User｜>' + m['content'] }}{% else %}"
    "{{ '<｜Assistant｜>' + m['content'].split('</think>')[-1] + eos_token }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"
)
"""The shape of DeepSeek-R1's."""

GLM_4 = (
    "[gMASK]<sop>{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""Nothing ends an answer but what opens the next turn."""

MISTRAL_7 = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% set talk = messages[1:] if system else messages %}{{ bos_token }}{% for m in talk %}"
    "{% if m['role'] == 'user' %}{{ '[INST]' }}"
    "{% if loop.last and system %}{{ system + '\n\n' }}{% endif %}{{ m['content'] + '[/INST]' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""The system prompt stands in the last turn if that is the user's."""

COMMAND_R = (
    "{% for m in messages %}{{ '<|START|><|' + m['role'] + '|>' }}"
    "{% if m['role'] == 'assistant' %}{{ '<|SAY|>' + m['content'] + '<|SAID|>' }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|END|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|START|><|assistant|><|SAY|>' }}{% endif %}"
)
"""Two tokens follow one another behind an answer."""

VICUNA = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}"
)

_SPEAKERS = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|tool|>"]


def with_reasoning(template=QWEN_3):
    """A tokenizer with <think> and </think>, not marked as special."""
    return tokenizer_with(template, plain=["<think>", "</think>"])


def glm_4(template=GLM_4):
    """A tokenizer of ChatGLM4's shape."""
    special = ["[gMASK]", "<sop>", *_SPEAKERS]
    return tokenizer_with(template, bos=None, eos="<|endoftext|>", special=special)


def strips_reasoning(template=STRIPS_REASONING):
    """A tokenizer of DeepSeek-R1's shape."""
    special = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"]
    return tokenizer_with(
        template, bos=special[0], eos=special[1], special=special, plain=["<think>", "</think>"]
    )


def mistral_7(template=MISTRAL_7):
    """A tokenizer of Mistral's shape, in which [INST] is no token."""
    return tokenizer_with(template, bos="<s>", eos="</s>", special=["<s>", "</s>"])


def command_r():
    """A tokenizer of Command R's shape."""
    special = ["<|START|>", "<|END|>", "<|SAY|>", "<|SAID|>", *_SPEAKERS]
    return tokenizer_with(COMMAND_R, eos="<|END|>", special=special)
