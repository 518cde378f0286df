"""Chat templates of the shapes of ChatML and its kin: Qwen, SmolLM, InternLM, Phi 4.

They are written here from what is publicly known of each format; they are nobody's text.
"""

from __future__ import annotations

CHATML = """{% for m in messages %}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""

CHATML_MARKED = """{% for m in messages %}
<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}
{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}

{% else %}
{{ m.content }}<|im_end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""

SMOLLM_2 = (
    """{% if messages[0].role != 'system' %}
<|im_start|>system
You are a small model.<|im_end|>
{% endif %}
"""
    + CHATML
)

_QWEN_CALLS = """{% if m.content %}{{ '\\n' }}{% endif %}
{% for call in m.tool_calls %}
{% if not loop.first %}{{ '\\n' }}{% endif %}
<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}"""

_QWEN = """{% set first = messages[0] %}
{% set given = first.role == 'system' %}
{% set last_question = namespace(at=0) %}
{% for m in messages %}
{% if m.role == 'user' %}{% set last_question.at = loop.index0 %}{% endif %}
{% endfor %}
{% if tools %}
<|im_start|>system
{{ first.content if given else DEFAULT }}

# Tools
{% for tool in tools %}
{{ tool | tojson }}
{% endfor %}
<|im_end|>
{% elif given or DEFAULT %}
<|im_start|>system
{{ first.content if given else DEFAULT }}<|im_end|>
{% endif %}
{% for m in messages %}
{% if m.role == 'tool' %}
{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}
<|im_start|>user
{% endif %}
<tool_response>
{{ m.content }}
</tool_response>{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>{% endif %}

{% elif m.role == 'assistant' %}
<|im_start|>assistant
ANSWER<|im_end|>MARKED
{% elif not (loop.first and given) %}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""

PLAIN_ANSWER = "{{ m.content }}{% if m.tool_calls %}" + _QWEN_CALLS + "{% endif %}"

THINKING_ANSWER = """{% set text, thought = m.content, m.reasoning_content or '' %}
{% if not thought and '</think>' in text %}
{% set thought = text.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{% set text = text.split('</think>')[-1].lstrip('\\n') %}
{% endif %}
{% if loop.index0 > last_question.at and (loop.last or thought) %}
<think>
{{ thought.strip('\\n') }}
</think>

{{ text.lstrip('\\n') }}{% else %}{{ text }}{% endif %}{% if m.tool_calls %}""" + (
    _QWEN_CALLS + "{% endif %}"
)


def qwen(answer: str, default: str, *, marked: bool = False) -> str:
    if marked:
        text = _QWEN.replace("ANSWER<|im_end|>MARKED", "{% generation %}ANSWER<|im_end|>MARKED")
        text = text.replace("MARKED", "{% endgeneration %}\n")
    else:
        text = _QWEN.replace("MARKED", "")
    return text.replace("ANSWER", answer).replace("DEFAULT", repr(default))


PHI_4 = """{% for m in messages %}
{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' -}}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"""

PHI_4_REASONING = (
    """{% if messages[0].role != 'system' %}
{{ '<|im_start|>system<|im_sep|>Think between <think> and </think>.<|im_end|>' -}}
{% endif %}
"""
    + PHI_4
)
