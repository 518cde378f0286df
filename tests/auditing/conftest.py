"""A small file with a fault in most of its rows."""

from __future__ import annotations

import pytest

ROWS = """\
问题,答案
头痛怎么办？,多休息，多喝水。
头痛怎么办？,多休息，多喝水。
发烧怎么办？,"先量体温,再看医生。。。。"
咳嗽怎么办？,先喝水，再看看，
血压多少正常？,收缩压９０到１４０。
怎么联系医生？,请打电话13812345678。
腹泻怎么办？,无
<b>失眠</b>怎么办？,睡前少看手机&nbsp;也少喝茶。
牙痛怎么办？,
多了一列,答案,是的
鼻塞怎么办？,用温盐水洗一洗鼻子，多喝热水，好好睡一觉，三天不好再来看医生，平时多锻炼。
鼻塞怎么办？,用温盐水洗一洗鼻子，多饮热水，好好睡一觉，三天不好再来看医生，平时多锻炼。
"""


@pytest.fixture
def faulty(tmp_path):
    """faulty.csv: 12 rows, of which 6 are kept."""
    path = tmp_path / "faulty.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path
