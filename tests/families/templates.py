"""Chat templates of the shapes of known families.

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


LLAMA_2 = """{% set first = messages[0] %}
{% set system = first.content if first.role == 'system' else '' %}
{% for m in messages if m.role != 'system' %}
{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('user and assistant speak in turn') }}
{% endif %}
{% if m.role == 'user' %}
{% set asked = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' if loop.first and system else '' %}
{{ bos_token + '[INST] ' + (asked + m.content) | trim + ' [/INST]' -}}
{% else %}
{{ ' ' + m.content | trim + ' ' + eos_token -}}
{% endif %}
{% endfor %}"""

_LLAMA_3 = """{{ bos_token }}{% for m in messages %}
{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' -}}
{% if m.role == 'assistant' %}
OPEN{{ m.content | trim }}<|eot_id|>CLOSE{% else %}
{{ m.content | trim }}<|eot_id|>{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{% endif %}"""

LLAMA_3 = _LLAMA_3.replace("OPEN", "").replace("CLOSE", "")
LLAMA_3_MARKED = _LLAMA_3.replace("OPEN", "{% generation %}").replace(
    "CLOSE", "{% endgeneration %}"
)

LLAMA_3_1 = """{{ bos_token }}{% set first = messages[0] %}
{% set given = first.content | trim if first.role == 'system' else '' %}
{{ '<|start_header_id|>system<|end_header_id|>\\n\\nKnows things up to 2023.\\n\\n' -}}
{{ given -}}
{% if tools %}
{% for tool in tools %}
{{ '\\n\\n' + tool | tojson(indent=4) -}}
{% endfor %}
{% endif %}
<|eot_id|>{% for m in messages %}
{% if m.tool_calls %}
{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}
{% set call = m.tool_calls[0].function %}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name -}}
{{ '", "parameters": ' + call.arguments | tojson + '}<|eot_id|>' -}}
{% elif not (loop.first and m.role == 'system') %}
{% set role = 'ipython' if m.role == 'tool' else m.role %}
{{ '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' -}}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{% endif %}"""

MISTRAL = """{{ bos_token }}{% set first = messages[0] %}
{% set system = first.content + '\\n\\n' if first.role == 'system' else '' %}
{% for m in messages if m.role != 'system' %}
{% if m.role == 'user' %}
{{ ' [INST] ' + (system if loop.first else '') + m.content + ' [/INST]' -}}
{% elif m.role == 'assistant' %}
{{ ' ' + m.content + eos_token -}}
{% else %}
{{ raise_exception('only user and assistant') }}
{% endif %}
{% endfor %}"""

MISTRAL_3 = """{{ bos_token }}{% set first = messages[0] %}
{% set talk = messages[1:] if first.role == 'system' else messages %}
{% set last = namespace(question=0) %}
{% for m in talk %}
{% if m.role == 'user' %}{% set last.question = loop.index0 %}{% endif %}
{% endfor %}
{% for m in talk %}
{% if m.role == 'user' %}
{% if tools and loop.index0 == last.question %}
{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' -}}
{% endif %}
{{ '[INST]' -}}
{% if loop.last and first.role == 'system' %}
{{ first.content + '\\n\\n' -}}
{% endif %}
{{ m.content + '[/INST]' -}}
{% elif m.tool_calls %}
{{ '[TOOL_CALLS][' -}}
{% for call in m.tool_calls %}
{{ call.function | tojson + (']' if loop.last else ', ') -}}
{% endfor %}
{{ eos_token -}}
{% elif m.role == 'tool' %}
{{ '[TOOL_RESULTS]{"content": ' + m.content + '}[/TOOL_RESULTS]' -}}
{% else %}
{{ m.content + eos_token -}}
{% endif %}
{% endfor %}"""

_GEMMA = """{{ bos_token }}{% set first = messages[0] %}
SYSTEM{% for m in messages if m.role != 'system' %}
{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('user and model speak in turn') }}
{% endif %}
{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' -}}
{{ (system if loop.first else '') + m.content | trim + '<end_of_turn>\\n' -}}
{% endfor %}
{% if add_generation_prompt %}
{{ '<start_of_turn>model\\n' -}}
{% endif %}"""

GEMMA_2 = _GEMMA.replace(
    "SYSTEM",
    "{% if first.role == 'system' %}{{ raise_exception('no system prompt') }}{% endif %}"
    "{% set system = '' %}",
)
GEMMA_3 = _GEMMA.replace(
    "SYSTEM", "{% set system = first.content + '\\n\\n' if first.role == 'system' else '' %}"
)

PHI_3 = """{% for m in messages %}
{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' -}}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\\n' -}}
{% else %}{{ eos_token }}{% endif %}"""

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

GPT_OSS = """<|start|>system<|message|>Made for tests.<|end|>{% for m in messages %}
{% if m.role == 'assistant' %}
<|start|>assistant{% generation %}<|channel|>final<|message|>{{ m.content -}}
{{ '<|return|>' if loop.last else '<|end|>' }}{% endgeneration %}
{% else %}
{% set role = 'developer' if m.role == 'system' else m.role %}
{{ '<|start|>' + role + '<|message|>' + m.content + '<|end|>' -}}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}<|start|>assistant{% endif %}"""

COMMAND_A = """{{ bos_token }}{% for m in messages %}
<|START_OF_TURN_TOKEN|>{% if m.role == 'assistant' %}
<|CHATBOT_TOKEN|><|START_RESPONSE|>{{ m.content }}<|END_RESPONSE|>{% else %}
{{ '<|' + m.role | upper + '_TOKEN|>' + m.content }}{% endif %}
<|END_OF_TURN_TOKEN|>{% endfor %}
<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% if add_generation_prompt %}<|START_RESPONSE|>{% endif %}
"""

GLM_4 = """[gMASK]<sop>{% if tools %}
<|system|>
# Tools
{% for tool in tools %}
{{ tool.function | tojson }}
{% endfor %}
{% endif %}
{% for m in messages %}
{% if m.tool_calls %}
{% for call in m.tool_calls %}
{{ '<|assistant|>' + call.function.name + '\\n' + call.function.arguments | tojson -}}
{% endfor %}
{% else %}
{{ '<|' + ('observation' if m.role == 'tool' else m.role) + '|>\\n' + m.content -}}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}<|assistant|>{% endif %}"""

DEEPSEEK_2 = """{{ bos_token }}{% for m in messages %}
{% if m.role == 'user' %}
{{ 'User: ' + m.content + '\\n\\n' -}}
{% elif m.role == 'assistant' %}
{{ 'Assistant: ' + m.content + eos_token -}}
{% else %}
{{ m.content + '\\n\\n' -}}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}Assistant:{% endif %}"""

DEEPSEEK_3 = """{{ bos_token }}{% set first = messages[0] %}
{{ first.content if first.role == 'system' -}}
{% if tools %}
{% for tool in tools %}
{{ '\\n\\n' + tool.function | tojson -}}
{% endfor %}
{% endif %}
{% for m in messages %}
{% if m.role == 'user' %}
{{ '<｜User｜>' + m.content -}}
{% elif m.tool_calls %}
{{ '<｜Assistant｜><｜tool▁calls▁begin｜>' -}}
{% for call in m.tool_calls %}
{{ '<｜tool▁call▁begin｜>' + call.function.name + '<｜tool▁sep｜>' -}}
{{ call.function.arguments | tojson + '<｜tool▁call▁end｜>' -}}
{% endfor %}
{{ '<｜tool▁calls▁end｜>' + eos_token -}}
{% elif m.role == 'tool' %}
{{ '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' -}}
{% elif m.role == 'assistant' %}
{{ '' if messages[loop.index0 - 1].role == 'tool' else '<｜Assistant｜>' -}}
{{ m.content + eos_token -}}
{% endif %}
{% endfor %}
{% if add_generation_prompt and messages[-1].role != 'tool' %}{{ '<｜Assistant｜>' }}{% endif %}"""

DEEPSEEK_R1 = """{{ bos_token }}{% for m in messages %}
{% if m.role == 'system' %}
{{ m.content -}}
{% elif m.role == 'user' %}
{{ '<｜User｜>' + m.content -}}
{% else %}
{% set said = m.content.split('</think>')[-1] if '</think>' in m.content else m.content %}
{{ '<｜Assistant｜>' + said + eos_token -}}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"""

ZEPHYR = """{% for m in messages %}
{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' -}}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\\n' -}}
{% endif %}"""
