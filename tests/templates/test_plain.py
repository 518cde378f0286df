import pytest

from burnish.templates.plain import PLAIN_TEMPLATES, choose_template, template_name
from tests.conftest import CHATML, byte_tokenizer


@pytest.mark.parametrize(
    ("own", "wanted", "chosen"),
    [
        ("own", "auto", None),
        (None, "auto", PLAIN_TEMPLATES["plain_zh"]),
        ("own", "plain_en", PLAIN_TEMPLATES["plain_en"]),
        (None, "plain_zh", PLAIN_TEMPLATES["plain_zh"]),
    ],
)
def test_a_models_own_template_stays_unless_the_recipe_names_another(own, wanted, chosen):
    assert choose_template(own, wanted) == chosen


def test_a_plain_template_is_known_by_its_text_and_any_other_is_the_models_own():
    assert template_name(byte_tokenizer(CHATML)) == "own"
    for name, text in PLAIN_TEMPLATES.items():
        assert template_name(byte_tokenizer(text)) == name
