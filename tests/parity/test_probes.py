"""The probes hold what other templates and servers get wrong."""

from __future__ import annotations

from burnish.parity.probes import ONE_QUESTION, probes


def by_name(control=("<s>", "</s>")):
    return {probe.origin: probe for probe in probes(list(control))}


def test_names_are_told_apart_and_each_probe_ends_with_an_answer():
    found = probes([])
    assert len({probe.origin for probe in found}) == len(found) == 19
    assert {probe.messages[-1].role for probe in found} == {"assistant"}
    assert found[0].origin == ONE_QUESTION


def test_what_servers_get_wrong_is_among_them():
    found = by_name()
    asked = {name: probe.messages[-2].content for name, probe in found.items()}
    assert asked["empty question"] == ""
    assert asked["white space at both ends"] != asked["white space at both ends"].strip()
    assert len(asked["long text"]) > 1500
    assert "<|im_end|>" in asked["markers of ChatML"]
    assert "### 响应:" in asked["markers of plain templates"]
    assert "[INST]" in asked["markers of Llama"]
    assert [m.role for m in found["system prompt"].messages] == ["system", "user", "assistant"]
    assert found["tool result"].messages[1].tool_calls[0]["name"] == "get_weather"


def test_a_tokenizers_own_control_tokens_stand_in_a_question():
    assert by_name()["markers of this tokenizer"].messages[0].content == "a<s>b</s>c"
