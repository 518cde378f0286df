import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.cleaning.repetition import repeated_share


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("好" * 100, 0.99),
        ("多喝水。" * 25, 0.96),
        ("头痛发热咳嗽乏力" + "好" * 12 + "。", 11 / 21),
        ("abc" * 4, 0.75),
        ("哈" * 9, 0.0),
        ("哈" * 10, 0.9),
        ("多喝水，注意休息。" * 3, 0.0),
        ("-" * 80, 0.0),
        ("." * 80 + "3", 0.0),
        ("0000 " * 20, 0.0),
        ("| 是 | 是 |\n" * 20, 0.0),
        ("```\n" + "x = 1\n" * 20 + "```", 0.0),
        ("", 0.0),
    ],
)
def test_what_repeats_is_counted_without_its_first_time(text, share):
    assert repeated_share(text) == pytest.approx(share)


def test_a_text_of_rows_that_differ_repeats_nothing():
    rows = "\n".join(f"INSERT INTO t VALUES ({n}, 'a');" for n in range(40))
    assert repeated_share(rows) == 0.0


@given(st.text(alphabet="ab好。 ", max_size=80), st.integers(1, 6), st.floats(0, 1))
def test_the_quick_look_hides_no_share_that_is_worth_knowing(unit, times, least):
    text = unit * times
    share = repeated_share(text)
    assert 0 <= share <= 1
    assert repeated_share(text, least) == (share if share > least else repeated_share(text, least))
    assert share <= least or repeated_share(text, least) == share
