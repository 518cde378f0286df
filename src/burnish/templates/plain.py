"""Chat templates for models that bring none, and an end for those that write none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLAIN = (
    "{{% for message in messages %}}"
    "{{% if message['role'] == 'system' %}}{{{{ message['content'] + '\\n\\n' }}}}"
    "{{% elif message['role'] == 'user' %}}"
    "{{{{ '### {instruction}:\\n' + message['content'] + '\\n\\n' }}}}"
    "{{% if message['input'] %}}"
    "{{{{ '### {input}:\\n' + message['input'] + '\\n\\n' }}}}{{% endif %}}"
    "{{% elif message['role'] == 'assistant' %}}"
    "{{{{ '### {response}:\\n' + message['content'] + eos_token + '\\n\\n' }}}}"
    "{{% else %}}{{{{ raise_exception('it has no place for the role ' + message['role']) }}}}"
    "{{% endif %}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{{{{ '### {response}:\\n' }}}}{{% endif %}}"
)

PLAIN_TEMPLATES = {
    "plain_zh": _PLAIN.format(instruction="指令", input="输入", response="响应"),
    "plain_en": _PLAIN.format(instruction="Instruction", input="Input", response="Response"),
}
"""The guide's template and its English twin, for models that bring none."""

_CLOSING = (
    "{% if not add_generation_prompt and messages[-1]['role'] == 'assistant' %}"
    "{{ eos_token }}{% endif %}"
)


def closed_with_eos(template: str) -> str:
    """The template with an eos behind the last answer."""
    # Jinja leaves out a line break at the end of a template, but not within it.
    return template.removesuffix("\n") + _CLOSING


def choose_template(own: str | None, wanted: str) -> str | None:
    """The template to put in place of the tokenizer's own, or None to keep that."""
    if wanted in PLAIN_TEMPLATES:
        return PLAIN_TEMPLATES[wanted]
    return None if own else PLAIN_TEMPLATES["plain_zh"]


def template_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """`plain_zh`, `plain_en`, or `own` for a template that came with the model."""
    template = tokenizer.chat_template
    return next((name for name, text in PLAIN_TEMPLATES.items() if text == template), "own")
