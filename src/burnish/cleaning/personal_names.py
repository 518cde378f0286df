"""Names of people behind a cue word (`我叫张伟`, `Patient name: John Smith`): patterns and a check.

A Chinese name is a surname and one or two characters, up to a mark or a word that often follows a
name. Behind a weak cue (`我是`, `患者`) many words look alike, so that rare surnames do not count.
A surname with only a title (`张先生`, `李某`, `Dr. Smith`) names nobody, and names without a cue
are not looked for.
"""

from __future__ import annotations

import re

_COMMON = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩邓冯曹彭曾肖萧田董袁潘蒋蔡"
    "余杜叶程苏魏吕丁沈姚卢姜崔钟谭陆汪范金石廖贾韦夏付傅方白邹孟熊秦邱江尹薛闫阎段雷"
    "侯龙史陶黎贺顾毛郝龚邵钱严覃武戴莫孔汤任温于邢樊葛翟詹倪聂耿俞柯裴霍翁骆蒲饶牟缪"
    "褚娄窦戚岑瞿佟臧闵邬卞栾隋邸郜阚鄢谌匡鞠虞甄荆卓殷庞颜庄岳鲁章柳梅伍乔施康齐"
    "張劉陳楊黃趙吳馬羅鄭謝許韓鄧馮蕭葉蘇呂盧鐘譚陸賈鄒龍賀顧龔錢嚴湯孫"
)
_RARE = (
    "向常文牛安易申关兰焦甘祝包宁尚符舒阮纪童凌毕单季涂成苗谷盛曲冉蓝路辛靳管柴蒙鲍华"
    "喻祁房滕屈艾尤阳时穆司古吉简车项连芦麦景党费卜冷晏席卫米柏宗桂苟姬师仇商刁沙荣巫"
    "寇桑郎丛仲敖巩明池查苑迟乐郁南燕楚劳洪欧宫万"
)
_COMPOUND = (
    "欧阳|上官|司马|诸葛|司徒|皇甫|夏侯|尉迟|公孙|慕容|令狐|宇文|长孙|轩辕|南宫|端木|独孤|呼延"
)


def _words(groups: str) -> frozenset[str]:
    return frozenset(group[0] + second for group in groups.split() for second in group[1:])


# Words that look like a surname with a given name: the surname, and what makes a word of it.
_BEGINNINGS = _words(
    "高血烧热龄中三二考度危压脂糖速蛋钙钾尿等低个位级档手温于管职分达效校层额价新 "
    "白血细带领色斑癜内芍术芷喉方酒衣 黄疸色种褐体豆瓜芪连芩痰土昏 方便法案面式才能位可针言圆 "
    "于是此今昨前去上下次某外门急术入出近早晚凌家同每当年月日本 曾经有在因患做用服于被接多 "
    "严重格肃禁密厉峻防加守谨惩 何时种处药因况以必等故苦用如尝来止其 任何意务期职教命由免用 "
    "马上 石膏 金属黄额牌钱融 毛病发孔囊巾细 胡言思须说乱椒萝闹 张口嘴 林业区场 程度序式 "
    "叶酸片 汤药 龙骨胆 熊胆猫 雷公诺电 钟头 朱砂 许多久配 余下额热名人年 莫名非过 "
    "周边围期末身岁转到年 陈述旧皮 谢谢天绝 温度暖热水泉饱差室 戴帽眼口着上假套牙 夏季日枯 "
    "范围畴例 陆续地 钱包币款 江苏西湖 顾虑及客 苏醒 杜绝 丁香 武警士力侠 付款出费给 "
    "庞大 颜色面 庄严稼园 岳母父 鲁莽 章节程 柳树州叶 梅毒花雨核 乔装迁木 施行工用压加治以展 "
    "康复健宁 齐全 葛根 霍乱 殷切红勤 卓越 黃疸色 馬上 張口 嚴重 謝謝 許多 陳述 顧慮 "
    "单位身 安静全徽排 查找询看 常用见规 简单称历 费用 项目 明显确 时间候 包括 管理 商务家 文员件"
)
_WHOLE = _words(
    "高兴大一 乔治 白天发 黄金斑 于一二三四五六七八九十 方案向 石头油斛化 金银星刚 马虎路桶 "
    "毛衣 张力开大贴 王八国子 李子 孙子女 叶子绿黄 唐氏朝代 汤水剂 雷达击 姜汤片 钟表点 武汉器术装 "
    "宋朝代 秦朝代 韩国语式剧 田间地七 杨梅桃树 罗红列马 许可诺 沈阳 段时落 孔雀 余地 "
    "史上学 周一二三四五六日转到 徐州缓 郑州重 贺卡 温柔和馨 夏天 江水南北 顾问 苏州打 陶瓷 "
    "肖像 董事 安心慰"
)

_GIVEN = (
    "(?![吗呢吧啊呀了么的是不没很都还要会能这那哪什我你他她它们个次岁病痛疼炎症被请让人者性])"
    "[\u4e00-\u9fff]"
)
_NO_HAN = r"(?=[^\u4e00-\u9fff·]|\Z)"
_TITLE = (
    "先生|女士|小姐|太太|同学|医生|医师|大夫|老师|主任|教授|护士|院长|阿姨|叔叔|大爷|奶奶|"
    "爷爷|师傅|总|某|氏|姓"
)
_FOLLOWS = (
    "先生|女士|小姐|同学|医生|今年|现年|来自|性别|年龄|电话|手机|联系|身份证|住址|家住|住院|"
    "入院|出院|主诉|自述|出现|确诊|突发|突然|反复|最近|近日|目前|一直|正在|就诊|来院|前来|需要|"
    "曾经|已经|既往|术后|因为|由于|今天|昨天|感到|感觉|觉得|希望|咨询|预约|挂号|复诊|服用|检查|"
    "血压|体温|身高|体重|职业|民族|籍贯|出生|您好|你好|请问|头痛|头晕|发热|咳嗽|腹痛|胸痛|[的是]"
)
_FOLLOWS_SHORT = (
    r"[因于在有被说称患诉岁我想]|[和与](?![因于在有被患诉是的])"
    r"|[男女](?:性|[，,、\s]?\d{1,2}(?!\d))"
)


def _chinese(surnames: str, follows: str, short: str = "") -> str:
    # Two characters go first (张志和，), unless the last is more likely what follows (张伟男，).
    two = rf"{_GIVEN}(?![男女]){_GIVEN}{_NO_HAN}"
    two += rf"|{_GIVEN}(?![男女因于在有被说称患诉岁我想]){_GIVEN}(?={follows})"
    ends = f"{_NO_HAN}|(?={follows}{'|' + short if short else ''})"
    return rf"(?:{_COMPOUND}|[{surnames}])(?!{_TITLE})(?:{two}|(?:{_GIVEN}){{1,2}}?(?:{ends}))"


_ANY = _chinese(_COMMON + _RARE, _FOLLOWS, _FOLLOWS_SHORT)
_PLAIN = _chinese(_COMMON, _FOLLOWS, _FOLLOWS_SHORT)
_KIN = (
    "女儿|儿子|孩子|宝宝|母亲|妈妈?|父亲|爸爸?|妻子|老婆|太太|爱人|丈夫|老公|先生|配偶|爷爷|奶奶|外公|外婆|"
    "姥姥|姥爷|哥哥?|弟弟|姐姐?|妹妹|孙子|孙女|外孙|儿媳|女婿|侄|外甥|家属|家人|家长|亲属|监护人|"
    "护工|男友|女友|男朋友|女朋友|主治|主管医"
)
_ALONE = _chinese(_COMMON, f"的(?:{_KIN})")
"""Behind `我是`: whose kin speaks, not whose reader or admirer."""
_WORD = (
    r"(?!(?:My|The|And|This|Please|He|She|We|It|But|Age|Sex|Gender|Date|Phone|Tel|Email|Mobile|"
    r"Address|Job|Born|Thank|Thanks|Hello|Hi|You|Your|What|How|Is|Can|Type|African|Native|Asian|"
    r"Latin|New|Not|Dr|Mr|Mrs|Ms|Prof|Health|Care|Services|Safety)\b)"
    r"(?:Mc|Mac|De|[A-Z]['’])?[A-Z][a-z]+(?:-[A-Z][a-z]+)?(?![A-Za-z])"
)
_FIRST = (
    "Aaron|Abigail|Adam|Agnes|Alan|Albert|Alejandro|Alex|Alexander|Alexandra|Alice|Alison|Amanda|"
    "Amelia|Amy|Ana|Andrea|Andrew|Andy|Angela|Anita|Ann|Anna|Anne|Anthony|Antonio|Arthur|Ashley|"
    "Barbara|Ben|Benjamin|Betty|Beth|Bob|Bobby|Brandon|Brenda|Brian|Bruce|Bryan|Carl|Carlos|Carol|"
    "Caroline|Catherine|Charles|Charlie|Charlotte|Cheryl|Chloe|Chris|Christina|Christine|"
    "Christopher|Claire|Clara|Craig|Cynthia|Dan|Daniel|David|Deborah|Debra|Dennis|Diana|Diane|"
    "Donald|Donna|Dorothy|Douglas|Dylan|Edward|Eleanor|Elena|Eliza|Elizabeth|Ella|Ellen|Emily|"
    "Emma|Eric|Ethan|Eugene|Eva|Evelyn|Fiona|Frances|Francis|Frank|Fred|Gabriel|Gary|George|Gerald|"
    "Gloria|Grace|Greg|Gregory|Hannah|Harold|Harry|Heather|Helen|Henry|Howard|Hugh|Ian|Irene|"
    "Isabel|Isabella|Jack|Jacob|Jake|James|Jane|Janet|Jason|Jean|Jeff|Jeffrey|Jennifer|Jeremy|"
    "Jerry|Jesse|Jessica|Jill|Jim|Joan|Joe|John|Johnny|Jon|Jonathan|Jordan|Jose|Joseph|Joshua|Joyce|"
    "Juan|Judith|Judy|Julia|Julian|Julie|Karen|Kate|Katherine|Kathleen|Kathryn|Katie|Keith|Kelly|"
    "Ken|Kenneth|Kevin|Kim|Kimberly|Kyle|Larry|Laura|Lauren|Lawrence|Leo|Leon|Leonard|Liam|Linda|"
    "Lisa|Liz|Louis|Louise|Lucas|Lucy|Luis|Luke|Lynn|Margaret|Maria|Marie|Marilyn|Mark|Martha|"
    "Martin|Mary|Mason|Matt|Matthew|Megan|Melissa|Michael|Michelle|Miguel|Mike|Mohammed|Molly|"
    "Nancy|Natalie|Nathan|Nicholas|Nick|Nicole|Noah|Nora|Oliver|Olivia|Oscar|Pamela|Patricia|"
    "Patrick|Paul|Paula|Pedro|Peter|Philip|Phillip|Rachel|Ralph|Raymond|Rebecca|Richard|Robert|"
    "Robin|Roger|Ronald|Rosa|Roy|Russell|Ruth|Ryan|Sally|Sam|Samantha|Samuel|Sandra|Sara|Sarah|"
    "Scott|Sean|Sharon|Shirley|Simon|Sofia|Sophia|Sophie|Stella|Stephanie|Stephen|Steve|Steven|"
    "Stuart|Susan|Sylvia|Ted|Teresa|Terry|Theresa|Thomas|Tim|Timothy|Tina|Todd|Tom|Tony|Tyler|"
    "Vanessa|Victor|Victoria|Vincent|Virginia|Walter|Wayne|Wendy|William|Zoe"
)
_PINYIN = (
    "Zhang|Wang|Li|Zhao|Chen|Liu|Yang|Huang|Zhou|Wu|Xu|Zhu|Gao|Guo|Luo|Liang|Zheng|Xie|Tang|Feng|"
    "Dong|Xiao|Cheng|Cao|Yuan|Deng|Fu|Shen|Zeng|Peng|Lu|Su|Jiang|Cai|Jia|Ding|Wei|Xue|Ye|Yan|Du|Dai|"
    "Xia|Zhong|Tian|Shi|Yao|Liao|Zou|Xiong|Hao|Bai|Cui|Kang|Mao|Qiu|Qin|Hou|Shao|Meng|Duan|Qian"
)
_ONE = rf"{_WORD}(?: [A-Z]\.)?(?: {_WORD}){{0,2}}"
_TWO = rf"{_WORD}(?: [A-Z]\.)?(?: {_WORD}){{1,2}}"

CHINESE_CUE = re.compile(
    r"(?:我叫|我是|名|患者|病人|[子儿女夫公婆妻亲妈爸宝]叫|家属|医[生师]|护士|本人|人[:：])"
    r"[^\u4e00-\u9fff]{0,3}(?:字|叫|是|为)*[^\u4e00-\u9fff]{0,3}"
    rf"(?:{_COMPOUND}|[{_COMMON}{_RARE}A-Z])"
)
"""A text without a match of this has no match of CHINESE_NAMES; quick to ask."""
ENGLISH_CUES = ("ame", "AME", "atient", "act person", "I am ", "I'm ", "I’m ")
"""A text without any of these has no match of ENGLISH_NAMES; quick to ask."""

CHINESE_NAMES = (
    re.compile(
        r"(?:我叫[:：]? ?|我的名字[叫是为][:：]? ?|"
        r"姓\s{0,2}名(?:[:：（( \t]{1,3}|是|为|叫)|名字[:：] ?|"
        r"(?:孩子|儿子|女儿|丈夫|老公|妻子|老婆|父亲|母亲|妈妈|爸爸|宝宝|患者|病人)名?叫|"
        rf"(?:联系|收件|监护|申请|负责|当事|委托)人[:：] ?)({_ANY}|{_ONE})"
    ),
    re.compile(
        r"(?:患者|病人|本人|姓名|名字?叫|名字是|(?:患者|病人|家属|医生|医师|护士)[:：]) ?"
        rf"({_PLAIN})"
    ),
    re.compile(rf"我是({_ALONE})"),
)
"""Patterns whose first group is a name behind a Chinese cue."""
_OUT_OF_WORD = "(?<![A-Za-z])"  # \b would fail beside a Han character
ENGLISH_NAMES = (
    re.compile(
        rf"{_OUT_OF_WORD}(?:[Mm]y (?:full )?name(?: is|['’]s)|"
        r"[Pp]atient(?:['’]s)? [Nn]ame(?: is|\s?[:：])|"
        r"(?:[Ff]ull|[Cc]ontact|[Cc]ustomer|[Cc]lient) [Nn]ame\s?[:：])"
        rf" ?(?:(?:Dr|Mr|Mrs|Ms)\.? )?({_ONE}|{_ANY})"
    ),
    re.compile(
        r"(?:(?:\A|[\n.;,|*(。；，])[ \t]{0,8}N(?:ame|AME)|"
        rf"{_OUT_OF_WORD}(?:[Pp]atient|[Cc]ontact person))\s?[:：] ?({_TWO}|{_ANY})"
    ),
    re.compile(
        rf"{_OUT_OF_WORD}[Pp]atient ({_TWO})"
        r"(?=,? (?:\d|aged?|was|is|has|had|reports|presented|complains))"
    ),
    re.compile(
        rf"{_OUT_OF_WORD}I(?: am|['’]m) (?=(?:{_FIRST}|{_PINYIN})\b|[A-Za-z'’-]+ (?:{_PINYIN})\b)"
        rf"({_TWO})(?=[,.!]|\Z| and | from )"
    ),
)
"""Patterns whose first group is a name behind an English cue."""


def is_name(match: re.Match[str]) -> bool:
    """Whether what a pattern found is not rather the beginning of an ordinary word."""
    return match[1][:2] not in _BEGINNINGS and match[1] not in _WHOLE
