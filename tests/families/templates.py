"""Chat templates of the shapes of known families, those of ChatML apart.

They are written here from what is publicly known of each format; they are nobody's text.
"""

from __future__ import annotations

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

DEEPSEEK_R1_THINKS = DEEPSEEK_R1.replace(
    "{{ '<｜Assistant｜>' }}{% endif %}", "{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)

ZEPHYR = """{% for m in messages %}
{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' -}}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\\n' -}}
{% endif %}"""
