import pytest

from burnish.cleaning.privacy import find


def names(text):
    return [finding.text for finding in find(text, ["name"])]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("我叫张伟，", "张伟"),
        ("我叫张伟", "张伟"),
        ("大家好，我叫欧阳娜娜。", "欧阳娜娜"),
        ("我叫王建国今年50岁", "王建国"),
        ("我叫窦小明，", "窦小明"),
        ("我叫John，", "John"),
        ("我的名字是李明。", "李明"),
        ("姓名：王小明", "王小明"),
        ("姓名:王小明 性别:男", "王小明"),
        ("姓  名：王小明", "王小明"),
        ("患者姓名李子涵，", "李子涵"),
        ("联系人：赵敏 电话", "赵敏"),
        ("患者李娜", "李娜"),
        ("患者李娜，女，30岁", "李娜"),
        ("患者李娜女30岁", "李娜"),
        ("病人曾亚男，护士", "曾亚男"),
        ("病人王芳于昨日入院", "王芳"),
        ("患者徐志和因发热入院", "徐志和"),
        ("患者徐志和，", "徐志和"),
        ("患者張偉，", "張偉"),
        ("患者王小明的检查", "王小明"),
        ("医生：李明华", "李明华"),
        ("我女儿叫李小雨，", "李小雨"),
        ("我是李明，想咨询", "李明"),
        ("我是患者张伟的女儿", "张伟"),
        ("我是李明的妈妈，", "李明"),
        ("我叫 张伟", "张伟"),
        ("我叫：张伟，", "张伟"),
        ("我叫 John", "John"),
        ("我叫 John Smith，你好", "John Smith"),
        ("我的名字叫 John。", "John"),
        ("患者张国强先生", "张国强"),
    ],
)
def test_a_chinese_name_is_found_behind_its_cue(text, name):
    assert names(text) == [name]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My name is John Smith.", "John Smith"),
        ("My name is John Smith", "John Smith"),
        ("I am John Smith", "John Smith"),
        ("I'm Zhang Weili.", "Zhang Weili"),
        ("I'm Weili Zhang and I", "Weili Zhang"),
        ("Hi, my name's Mary and", "Mary"),
        ("my name is Dr. Mary O'Brien, ", "Mary O'Brien"),
        ("My name is John McDonald Thank you", "John McDonald"),
        ("Patient name: Mary Lee-Jones, age 45", "Mary Lee-Jones"),
        ("Patient's name is Zhang Wei", "Zhang Wei"),
        ("Name: John A. Smith Age: 45", "John A. Smith"),
        ("Report\nName: John Smith\nAge: 4", "John Smith"),
        ("Patient: Mary Jones", "Mary Jones"),
        ("Patient John Smith, 45, was", "John Smith"),
        ("I'm Mary Jones, from Leeds", "Mary Jones"),
        ("My name is 张伟.", "张伟"),
        ("你好my name is John", "John"),
    ],
)
def test_an_english_name_is_found_behind_its_cue(text, name):
    assert names(text) == [name]


@pytest.mark.parametrize(
    "text",
    [
        *("我叫了救护车", "我叫不出名字", "我叫他来", "我叫车去医院", "我叫家人陪我"),
        *("我是男性", "我是医生", "我是孕妇，", "我是高中生，", "我是大三阳", "我是安徽人，"),
        *("我是李白的粉丝", "我是鲁迅的读者", "我是王菲的歌迷，", "我是安徽的", "我是江苏的"),
        *("我是白领，", "我是万分感谢", "我是王医生，", "我是韩国人，"),
        *("患者高烧不退", "患者高热，", "患者黄疸，", "患者严重，", "患者何时能好", "患者谢谢"),
        *("患者于昨日入院", "患者曾有肺炎", "患者温度38", "患者全身无力", "患者男，45岁"),
        *(
            "患者张某，",
            "患者李某某，男",
            "患者王女士，30岁",
            "病人周先生",
            "患者常见的",
            "患者马上",
        ),
        *(
            "张先生您好",
            "李女士45岁",
            "王医生说",
            "张伟去了医院",
            "姓名、年龄",
            "姓名：___",
            "姓名：",
        ),
        *("王后的名字是夏洛特·索菲亚", "姓名和电话", "姓名单位", "姓名：\nSerenus", "我叫ChatGPT"),
    ],
)
def test_ordinary_chinese_words_behind_a_cue_are_no_name(text):
    assert names(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "My name is on the list.",
        "Patient name unknown",
        "Name: unknown",
        "Name: Aspirin",
        "File Name: Shape Explore",
        "Dr. Smith said",
        "Mr. John Smith",
        "John Smith said",
        "I am African American.",
        "I'm Going Home",
        "I'm Going Home.",
        "I am Legend",
        "I am Legend.",
        "I'm Feeling Lucky.",
        "I'm Still Here, ",
        "I am Iron Man.",
        "I'm So Long",
        "I am Chinese.",
        "patient Health Care was",
        "Eye contact: Engage",
        "nickname: John Smith",
    ],
)
def test_ordinary_english_words_behind_a_cue_are_no_name(text):
    assert names(text) == []


def test_several_names_in_a_text_are_all_found():
    assert names("我叫王芳，我老公叫李强，患者张伟") == ["王芳", "李强", "张伟"]
