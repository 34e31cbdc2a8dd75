"""The rule set `zh`: Chinese by its characters, for which no splitter of words is needed.

Where a paper has no rule that suits, a threshold is ours, set on the 15,676 real texts of
zh_classics, zh_d2l, zh_luxun and zh_tidb_docs (poems of 28 characters to manuals half in English):
every rule keeps 99 % of each file, all together 98.7 % or more. Stricter ones lose real text: at
least 200 characters, or 30 % Chinese ones, as ChineseWebText has them (Chen et al. 2023, arXiv
2311.01149), reject 98 % of the poems and 19 % of the manuals.
"""

import re
from collections.abc import Iterator

import numpy as np

from pipelines.corpus.rules.measure import Measure, duplicates
from pipelines.corpus.rules.ngrams import covered, repeats

MIN_CHARS = 20  # ours: the shortest poems of zh_classics have 20
MIN_CHINESE = 0.4  # of Chinese characters and words in other scripts; ours: 0.5 % quantile 0.41
PUNCTUATION = (0.01, 0.5)  # of characters; ours: quantiles 0.5 % and 99.5 % are 0.02 and 0.24
MIN_COMMON = 0.02  # of Chinese characters; ours: 0.5 % quantile 0.056, drawn at random 0.007
MAX_BOILERPLATE = 0.1  # of characters; ours: real texts have at most 0.003
MAX_DUPLICATE_LINE_CHARS = 0.3  # Gopher's is 0.2; ours: 99 % quantile 0.23
MAX_TOP_NGRAM = {2: 0.3, 4: 0.5}  # of characters; ours: 99.5 % quantiles 0.27, 0.46
DUPLICATE_NGRAM, MAX_DUPLICATE_NGRAM = 13, 0.7  # ChineseWebText has 0.5; ours: 99.5 % quantile 0.70

COMMON = frozenset(  # the 150 most frequent, each text counting the same; traditional forms
    "的一是不了数在中有我用以个为可和如时们人下行上来这于据使到将要本表过文量之大分对也能出所后子"
    "多入生会同相而他前自实度例小得置定然通无成集作花更看其意果并说型间模此参现示计风语日新点天算"
    "方何输地值学件年从事去向月进春你与面里还法当道或开务性类需列但查处接明因样层就该回配最只化应"
    "式见重存者高都情步知歌理個為來這時們數據將過對後會實無說現與還當開點裡"
)
BOILERPLATE = """
版权所有 免责声明 友情链接 设为首页 加入收藏 返回首页 返回顶部 网站地图 上一篇 下一篇
上一页 下一页 点击下载 点击查看 点击进入 立即购买 立即下载 立即咨询 在线咨询 免费咨询
免费试听 加微信 微信号 扫码 扫一扫 公众号 客服 热线 优惠券 包邮 特价 秒杀 代开发票 代办
办证 联系我们 关于我们 ICP备 注册登录 登录注册 忘记密码 分享到 锟斤拷 烫烫烫
"""

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_OTHER_WORD = re.compile(r"[^\W_\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_MARK = re.compile("[，。！？；：、,.!?;:“”‘’「」『』（）《》…—·]")
_BOILERPLATE = re.compile("|".join(BOILERPLATE.split()))
_SPACE = re.compile(r"\s+")


def measures(text: str) -> Iterator[Measure]:
    """The measures of `zh`, lazily, cheap ones first."""
    chinese = _HAN.findall(text)
    yield "chinese_chars", len(chinese), MIN_CHARS, float("inf")
    others = len(_OTHER_WORD.findall(text))
    yield "chinese_share", len(chinese) / (len(chinese) + others), MIN_CHINESE, 1
    chars = len(text) - sum(map(len, _SPACE.findall(text)))
    yield "punctuation", len(_MARK.findall(text)) / chars, *PUNCTUATION
    yield "common_chars", sum(map(COMMON.__contains__, chinese)) / len(chinese), MIN_COMMON, 1
    boilerplate = sum(map(len, _BOILERPLATE.findall(text)))
    yield "boilerplate", boilerplate / chars, 0, MAX_BOILERPLATE
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    share = duplicates(lines)[1] / sum(map(len, lines))
    yield "duplicate_line_chars", share, 0, MAX_DUPLICATE_LINE_CHARS
    yield from ngrams(text)


def ngrams(text: str) -> Iterator[Measure]:
    """The measures of repeated n-grams of characters, white space left out."""
    squeezed = _SPACE.sub("", text).encode("utf-32-le", "surrogatepass")
    chars = np.frombuffer(squeezed, np.uint32).astype(np.int64)
    lengths = np.ones(len(chars), np.int64)
    for found in repeats(chars, DUPLICATE_NGRAM):
        if found.n in MAX_TOP_NGRAM:
            share = covered(found.most_frequent(), found.n, lengths)
            yield f"top_{found.n}gram_chars", share, 0, MAX_TOP_NGRAM[found.n]
        elif found.n == DUPLICATE_NGRAM:
            share = covered(found.starts[~found.fresh], found.n, lengths)
            yield f"duplicate_{found.n}gram_chars", share, 0, MAX_DUPLICATE_NGRAM
