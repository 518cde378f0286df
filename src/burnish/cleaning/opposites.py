"""Words that turn the meaning of a text round: negations, opposites, units, Chinese and English.

Plain lists, to be added to; English in lower case. Chinese is compared letter by letter: 升高 and
降低 are told apart by 升/降 and 高/低.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

NEGATIONS = frozenset(
    "不 没 無 无 未 非 否 别 別 勿 莫 毋 no not never none nor neither cannot without non nothing "
    "nobody nowhere cant dont wont isnt arent wasnt doesnt didnt hasnt havent shouldnt "
    "couldnt wouldnt mustnt except unless hardly rarely seldom".split()
)

BUT_FOR_ONE_LETTER = frozenset(
    "now note net nut hot lot got pot dot rot knot so to go do on of or know one done gone "
    "bone nine tone ever fever lever sever for either can".split()
)
"""Words that are one letter away from a negation, so that none of them is a typo of it."""

NEGATING_PREFIXES = frozenset("un in im ir il non dis mis de anti".split())

OPPOSITE_PREFIXES = tuple(
    tuple(pair.split())
    for pair in (
        "hyper hypo, in de, in ex, im ex, pre post, over under, max min, inter intra, up down, "
        "macro micro, pro anti, sub super, any no, some no, every no, tachy brady, endo exo, "
        "mono poly, uni bi, in out"
    ).split(", ")
)

OPPOSITE_SUFFIXES = (("ful", "less"),)

_CHINESE_SETS = """
左 右, 前 后, 前 後, 上 下, 内 外, 內 外, 高 低, 大 小, 多 少, 阴 阳, 陰 陽, 男 女, 增 减, 增 減,
升 降, 甲 乙 丙 丁 戊 己 庚 辛 壬 癸, 轻 重, 快 慢, 急 慢, 长 短, 冷 热, 胖 瘦, 早 晚, 好 坏,
真 假, 对 错, 开 关, 进 出, 良 恶, 加 减 乘 除, 强 弱, 硬 软, 深 浅, 厚 薄, 粗 细, 新 旧, 老 幼,
父 母, 夫 妻, 东 西 南 北, 春 夏 秋 冬, 生 死, 买 卖, 宜 忌, 正 负, 正 反, 远 近, 松 紧, 干 湿,
虚 实, 寒 热, 涨 跌, 胜 败, 胜 负, 赢 输, 吸 呼, 动 静, 首 末, 顺 逆, 泻 秘, 可 禁, 允 禁, 支 反,
盈 亏, 儿 女, 哥 弟, 姐 妹, 安 危, 始 终, α β γ δ
"""

_ENGLISH_SETS = """
left right, before after, high low, higher lower, highest lowest, yes no, more less, more fewer,
most least, positive negative, true false, male female, man woman, men women, boy girl, he she,
him her, his her, above below, over under, inside outside, internal external, upper lower,
front back, early late, hot cold, warm cold, large small, big small, large little, big little,
long short, fast slow, safe dangerous, good bad, better worse, best worst, always never,
all none some, acute chronic, benign malignant, can cannot, day night, start stop, begin end,
morning evening afternoon, start end, open close, opened closed, open closed, on off, in out,
young old, new old, rich poor, strong weak, hard soft, heavy light, right wrong, artery vein,
arterial venous, mother father, son daughter, brother sister, north south east west, up down,
eastern western northern southern, systolic diastolic, may must, first second third fourth fifth,
once twice, i ii iii iv v vi, rise fall, gain loss, win lose, buy sell, with without, push pull,
one two three four five six seven eight nine ten eleven twelve,
hourly daily weekly monthly yearly, alpha beta gamma delta,
monday tuesday wednesday thursday friday saturday sunday, raise lower,
january february march april may june july august september october november december,
add subtract, add remove, multiply divide, accept reject, allow forbid, mild moderate severe,
agree refuse, pass fail, typical atypical, symptomatic asymptomatic, normal abnormal
"""

_UNITS = """
mg milligram milligrams, g gram grams, kg kilogram kilograms, ug mcg μg µg, iu, mmol, mol, μmol,
ml milliliter milliliters, l liter liters litre litres, mm, cm, m meter meters,
km kilometer kilometers, s sec second seconds, min minute minutes, h hour hours, day days,
week weeks, month months, year years, %, ‰, ℃, ℉, $, €, £, ¥, kb, mb, gb, tb, hz, khz, mhz, ghz,
v, kv, mw, kw, w, ma, pa, kpa, mpa, mmhg, kcal, cal, j, kj, ft, inch, 天 日, 周, 月, 年, 时, 分,
秒, 克, 毫, 微, 千, 升, 片, 粒, 米, 厘, 斤, 吨, 公, 瓶, 岁, 元, 角, 次, 倍, 度, 号
"""


def _numbered(sets: str) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for number, words in enumerate(sets.split(",")):
        for word in words.split():
            found[word].add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}


OPPOSITES: Mapping[str, frozenset[int]] = _numbered(f"{_CHINESE_SETS},{_ENGLISH_SETS}")
"""The sets of opposites to which a word belongs: two words that share one exclude each other."""

UNITS: Mapping[str, int] = {word: min(numbers) for word, numbers in _numbered(_UNITS).items()}
"""A number for each unit, the same for its other names."""
