import pytest

from burnish.cleaning.special_tokens import has_special_tokens, strip_special_tokens


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("你好<|im_end|>", "你好"),
        ("<|im_start|>assistant\n你好<|im_end|>\n<|im_start|>user", "你好"),
        ("<|start_header_id|>assistant<|end_header_id|>\n\n你好<|eot_id|>", "你好"),
        ("<|user|>\n你好<|end|>", "你好"),
        ("<start_of_turn>model\n你好<end_of_turn><eos>", "你好"),
        ("<｜begin▁of▁sentence｜><｜User｜>你好<｜end▁of▁sentence｜>", "你好"),
        ("[gMASK]<sop>你好<eop>", "你好"),
        ("<s>[INST] <<SYS>>\n你好[/INST]</s>", "你好"),
        ("### 响应:\n你好\n\n### 指令:", "你好"),
        ("### Response: 你好\n### Input：", "你好"),
        ("</s>", ""),
        ("[INST]  你好", "你好"),
        ("<|im_start|>assistant\n \n    if x:\n        y\nz", "    if x:\n        y\nz"),
    ],
)
def test_tokens_and_markers_at_the_ends_go(text, stripped):
    assert strip_special_tokens(text) == stripped
    assert has_special_tokens(text)


@pytest.mark.parametrize(
    "text",
    [
        "  你好 \n",
        "用户: 你好 user",
        "### 输入:\n一个整数\n### 输出:\n一个整数",
        "a[i]",
        "x>",
        "见下：",
        "### 概述\n内容",
        "<user>",
    ],
)
def test_a_text_without_them_stays(text):
    assert strip_special_tokens(text) == text
    assert not has_special_tokens(text)


def test_those_in_the_middle_are_left_for_the_rule():
    assert strip_special_tokens("前<|im_end|>后") == "前<|im_end|>后"
    assert has_special_tokens("前<|im_end|>后")
    assert has_special_tokens("前\n### 响应: 后")
    assert not has_special_tokens("以 `</s>` 结束")
