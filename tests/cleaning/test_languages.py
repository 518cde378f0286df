import pytest

from burnish.cleaning.languages import language_share
from burnish.recipe import CleanSection


@pytest.mark.parametrize(
    ("text", "languages", "share"),
    [
        ("头痛", ["zh"], 1.0),
        ("头痛 ab", ["zh"], 0.5),
        ("头痛 ab", ["zh", "en"], 1.0),
        ("頭痛です", ["zh"], 0.0),
        ("頭痛です", ["ja"], 1.0),
        ("头痛", ["ja"], 0.0),
        ("头痛" * 10 + "の", ["zh"], 20 / 21),
        ("café", ["en"], 1.0),
        ("두통", ["ko"], 1.0),
        ("боль", ["ru"], 1.0),
        ("صداع", ["ar"], 1.0),
        ("ปวด", ["th"], 1.0),
        ("दद", ["hi"], 1.0),
        ("πόνος", ["el"], 1.0),
        ("כאב", ["he"], 1.0),
        ("боль a", ["en", "en"], 0.2),
    ],
)
def test_letters_are_counted_by_script(text, languages, share):
    assert language_share(text, languages) == pytest.approx(share)


def test_a_text_without_letters_has_no_language():
    assert language_share("120/80, 37.5 ℃ 😀", ["zh"]) is None


def test_every_language_of_the_recipe_is_known():
    section = CleanSection(languages=["zh", "en", "ja", "ko", "ru", "ar", "th", "hi", "el", "he"])
    assert language_share("a", section.languages) == 1.0
