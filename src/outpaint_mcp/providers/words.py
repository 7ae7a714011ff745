"""What vendors' failure texts mean: one table of word families, in English and Chinese. Pure.

Vendors pass Midjourney's own sentences on, and those of the models and gateways behind them; codes for them are mostly
undocumented, and wordings change. So a sentence is judged by its stems: case, punctuation, white space, full-width and
traditional characters make no difference. A text that fits no family has no meaning here, and its status decides.

Sources: the pages of the vendors (PiAPI's and Legnext's of September 2026; OpenAI's `moderation_blocked`, fal's
`content_policy_violation`, Stability's `CONTENT_FILTERED`, BFL's `Request Moderated`, Replicate's "flagged as
sensitive", all of November 2026); Midjourney's titles as its public proxies list them ("Banned prompt detected", "Image
denied", "Request cancelled due to output filters", "Invalid parameter", "Invalid link", "Pending mod message",
"Blocked", "Subscription required", "Plan Cancelled", "Credits exhausted", "Queue full"; trueai-org/midjourney-proxy,
zcpua/midjourney-api, read 2026-11-26) and their Chinese descriptions (novicezk/midjourney-proxy, the same day).
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from outpaint_mcp.domain.errors import (
    AuthenticationError,
    ContentRejectedError,
    InsufficientCreditsError,
    InvalidRequestError,
    OutpaintError,
    RateLimitedError,
    UnsupportedFeatureError,
)
from outpaint_mcp.providers.midjourney import NO_V8_ZOOM


@dataclass(frozen=True, slots=True)
class Meaning:
    """The error that a text means, and what to do about it where that is not what the error itself advises."""

    kind: type[OutpaintError]
    advice: str | None = None


ACCOUNT: Final = Meaning(
    AuthenticationError,
    "It is about the account, not about the prompt or the image: the operator must look at it on the provider's site; "
    "or name another provider.",
)
CREDITS: Final = Meaning(InsufficientCreditsError)
CONTENT: Final = Meaning(ContentRejectedError)
QUEUE: Final = Meaning(RateLimitedError)
PARAMETERS: Final = Meaning(InvalidRequestError)
NO_ZOOM: Final = Meaning(
    UnsupportedFeatureError, f"{NO_V8_ZOOM} Give the image's URL as image, to a provider that extends any image."
)

MAX_JUDGED: Final = 2_000
"""Characters of a text that are judged: what is said later explains, and is not the reason."""


def _of(listed: str) -> str:
    """A family: stems and phrases, written with commas, that sentences in their normal form are searched for."""
    return "|".join(re.split(r",\s+", listed.strip().rstrip(",")))


def _word(listed: str) -> str:
    return rf"\b(?:{_of(listed)})\b"


def _near(first: str, second: str, words: int = 4) -> str:
    """Words of two families in either order, with at most so many others between them."""
    between = rf"(?: \w+){{0,{words}}}? "
    return rf"\b(?:{first}){between}(?:{second})\b|\b(?:{second}){between}(?:{first})\b"


def _beside(first: str, second: str) -> str:
    """The same in Chinese, which has no spaces."""
    return f"(?:{first}).{{0,8}}?(?:{second})|(?:{second}).{{0,8}}?(?:{first})"


class _Any:
    """Any of the patterns. `re` compiles them when a text is first judged: all of them take 60 ms (2026-11-27)."""

    def __init__(self, *patterns: str) -> None:
        self._pattern = "|".join(patterns)

    def search(self, sentence: str) -> re.Match[str] | None:
        return re.search(self._pattern, sentence)


_RULES = _of("polic(?:y|ies), guidelines?, standards?, rules?, terms, tos, regulations?, laws?, restrictions?")
_SHOWN = _of(
    """
    prompts?, images?, pictures?, photos?, contents?, texts?, inputs?, outputs?, results?, words?, phrases?,
    generations?
    """
)
_REFUSED = _of(
    r"""
    denied, den(?:y|ies), ban(?:ned|s)?, blocked, flag(?:ged|s)?, filtered, censored, prohibit(?:ed|s)?,
    forbid(?:den|s)?, disallowed, reject(?:ed|s|ion)?, refused?, restricted, illegal, unlawful, unacceptable,
    declin(?:e|ed|es), disapproved, withheld, objectionable, unsafe, harmful, offen(?:sive|ding|ds),
    inappropriate, unsuitable, suspicious,
    blacklist(?:ed)?, blocklist(?:ed)?, denylist(?:ed)?, violat(?:e|es|ed|ing|ion|ions|ive),
    infring(?:e|es|ed|ing|ement),
    (?:not|never) (?:be )?(?:\w+ )?(?:allowed|permitted|accepted|approved),
    not (?:be )?(?:\w+ )?(?:acceptable|appropriate|compliant|comply|safe|suitable|meet)
    """
)
_CONTENT: Final = _Any(
    # What is shown, by its name.
    _word(
        r"""
        nsfw, nud(?:e|es|ity), naked, porn\w*, sexual\w*, erotic\w*, lewd\w*, obscen\w+, indecen\w+, gore,
        gory, bloody, violence, self harm, hate (?:speech|content), hateful, profan\w+, vulgar\w*, deepfakes?,
        celebrit(?:y|ies), public figures?, real (?:person|people), copyright(?:ed)?, trademark(?:ed|s)?
        """
    ),
    _word("graphic, explicit, adult, mature, violent, political, abusive, disturbing, suggestive")
    + r" (?:\w+ )?(?:contents?|materials?|imagery|images?|prompts?|language)\b",
    r"(?<!case )(?<!time )\bsensitive\b(?! (?:to|header|field|key|data|credential|param))",
    _of("违规, 违禁, 违法, 违反, 违例, (?<!大小写)(?<!时间)敏感, 涉黄, 涉政, 涉暴"),
    _of("色情, 情色, 裸露, 裸体, 侵权, 低俗, 淫秽, 暴力, 血腥, 不雅, 不良(?:信息|内容|图)"),
    # Who judges it, and by what.
    _word("moderat(?:ion|or|ors|ed|ing), risk control, filtered, flagged, censored") + r"|^(?:\w+ )?safety$",
    _word(
        "safety (?:system|check|checker|checks|filters?|settings|classifier|reasons?|concerns?|measures?|review|team)"
    ),
    _near("community", _RULES, 1),
    _near("safety|content|usage|acceptable use", f"{_RULES}|violations?", 1),
    _near(_of(r"violat\w+, against, breach\w*, contrary, contraven\w+, conflicts?, comply, break\w*"), _RULES, 5),
    _near(f"{_SHOWN}|safety", "filter(?:s|ed|ing)?|censor(?:s|ed|ship)?", 1),
    _near(
        "(?:content|image|prompt|safety|policy) (?:review|check|screening|inspection)",
        "not pass|fail(?:ed|s)?|reject(?:ed|s)?",
    ),
    _of("风控, 内容安全, 安全策略, 安全系统, 内容政策, 社区(?:准则|规范|守则|标准), 屏蔽词, 禁用词, 禁词"),
    "触发.{0,4}(?:审核|审查|安全)",
    _beside(
        _of("审核, 审查, 内容检测, 安全检测, 鉴黄"),
        _of("不通过, 未通过, 没有通过, 未能通过, 没通过, 失败, 拒绝, 不合格, 拦截, 驳回, 被拒"),
    ),
    # What is shown, and that it was refused.
    _near(f"{_SHOWN}|terms?|keywords?|language|material|topics?|expressions?|concepts?|themes?|requests?", _REFUSED),
    _beside(
        _of(
            """
            提示词, 提示语, 咒语, 描述, 图片, 图像, 图(?=被), 垫图, 内容, 文本, 词语, 词汇, 关键词, 画面, 作品,
            输入, 输出, 请求, 生成结果, prompt, image
            """
        ),
        _of(
            """
            拒绝, 被拒, 禁止, 被禁, 拦截, 屏蔽, 过滤, 封禁, 封锁, 不(?:被|予)?允许, 不合规,
            不合法, 不当, 不适[当宜合], 非法, 驳回, 有害, 存在风险,
            不符合(?=.{0,6}(?:规|政策|要求|标准|准则))
            """
        ),
    ),
)
_CERTAIN: Final = _Any(
    _word("nsfw, nudity, moderat(?:ion|ors?|ed), community (?:guideline|standard)s?, safety system, content filters?"),
    _word(
        "(?:safety|content|usage) (?:polic(?:y|ies)|violations?|guidelines?), (?:content|safety|image|prompt) review"
    ),
    _word(
        r"(?:banned|forbidden|prohibited|sensitive|blocked) (?:prompts?|words?|contents?|terms?), porn\w*, sexual\w*"
    ),
    _of("敏感词, 敏感内容, 违规, 违禁, 色情, 审核"),
)
"""Families that speak of the content even beside the words of technical errors."""
_TECHNICAL: Final = _Any(
    _word(
        r"""
        too (?:large|small|long|short|big|many|few|wide|tall), sizes?, large[rs]t?, dimensions?, resolutions?,
        widths?, heights?, pixels?, bytes?, [km]b, formats?, types?, mime, extensions?, codecs?, encod\w+,
        decod\w+, pars\w+, json, schema, columns?, constraints?, null, integers?, booleans?, strings?,
        numbers?, param(?:eter)?s?, arguments?, fields?, options?, unrecogni[sz]ed, must be, expected, between,
        values?, names?, lines?, syntax,
        ratios?, empty, missing, required, download\w*, upload(?:ing)?, fetch\w*, load(?:ed|ing)?, urls?,
        links?, hosts?, https?, servers?, proxy, proxies, gateway, firewall, waf, cors, csp, security policy,
        origins?, headers?, methods?, connections?, networks?, ips?, dns, ssl, tls, certificates?, sockets?,
        robots, not found, status code, response, administrative, sql, database, disk, memory, cuda, gpu,
        ffmpeg, ioctl, device, driver, thread, retry, cache, bucket, storage, iam, tokens?, keys?,
        credentials?, auth\w*, access, permissions?, privileges?, owner, tim(?:ed out|eout), queue\w*
        """
    ),
    _of(
        """
        格式, 尺寸, 大小, 过大, 过小, 过长, 过短, 分辨率, 像素, 参数, 字段, 字符, 为空, 必填, 下载, 上传, 链接,
        超时, 网络, 连接, 服务器, 权限, 密钥, 令牌, 解析, 编码, 解码
        """
    ),
)
_JUDGE = "moderation|moderator|safety|filter|review"
_OUTAGE: Final = _Any(
    _word(r"tim(?:e|ed) out, timeouts?, unreachable, overload\w*, offline, bad gateway, internal (?:server )?error"),
    _word("connection, (?:service|server|system|api|model|backend) error, unable to (?:run|perform|complete)"),
    rf"\b(?:service|server|system|api|model|endpoint|backend|upstream|checker|{_JUDGE}) (?:\w+ ){{0,3}}"
    r"(?:unavailable|down|unresponsive|crashed|busy)\b",
    rf"\b(?:{_JUDGE}) (?:api|service|endpoint|server|backend) (?:\w+ ){{0,3}}(?:returned|failed|error|5\d\d)\b",
    r"\b(?:did not|didnt|no|not|failed to|could not|cannot|unable to|error) (?:\w+ )?"
    r"(?:respond|response|reach|reached|connect)\b",
    _of("超时, 不可用, 无法连接, 连接失败, 网络, 服务异常, 系统异常, 服务错误, 无响应"),
    "(?:审核|安全|检测)(?:服务|接口|系统).{0,6}(?:失败|错误|异常)",
)
"""The judge is out of order: that says nothing about what it was to judge.r"""
_PASSED: Final = _Any(
    r"(?<!not )(?<!nt )(?<!to )\bpass(?:ed|es)\b",
    r"\bno (?:\w+ )?(?:violations?|nsfw|sensitive \w+|issues?) (?:was |were |is |are )?(?:detected|found)\b",
    "(?<!未)(?<!不)(?<!没有)(?<!未能)(?<!没)审核(?:已)?通过",
)
_PERHAPS: Final = _Any(
    _word("may, might, could, can, will, would, if, further, repeated(?:ly)?, continued, in order to, avoid, risk"),
    "可能会?(?=.{0,8}[封禁停冻])|将会?(?=.{0,4}[被封禁])|否则|以免|如果|多次",
)
"""What threatens the account has not happened."""
_HELD = _of(
    """
    suspended, disabled, deactivated, banned, blocked, locked, frozen, terminated, restricted, paused, closed,
    inactive, limited(?! to), not active, not activated, on hold, (?:under|in) review, timed out, muted, revoked,
    flagged
    """
)
_ACCOUNT: Final = _Any(
    # A message of the moderators that waits to be read, in any order of these words.
    r"^(?=.*\b(?:mod|mods|moderators?|moderation)\b)(?=.*\b(?:messages?|notices?|notifications?|warnings?)\b)"
    r".*\b(?:pending|waiting|unread|outstanding|unacknowledged|acknowledg\w+)\b",
    _near("accounts?|users?|workspace|organi[sz]ation", _HELD),
    _near("access", "revoked|suspended|terminated"),
    rf"\byou(?:ve|re)? (?:(?:have|are|were|been|now|currently|temporarily|permanently) )*(?:{_HELD})\b",
    r"\b(?:blocked|banned|suspended)(?: \w+){0,2} from (?:accessing|using)\b|^(?:blocked|banned|suspended)$",
    _word("acknowledge, verify (?:that )?your?e? (?:are )?(?:a )?human, accept (?:the|our|its) (?:new )?(?:terms|tos)"),
    _beside(
        _of("账号, 账户, 帐号, 帐户, 您已, 你已"),
        _of("封, 禁用, 停用, 冻结, 暂停, 锁定, 受限, 限制, 被禁, 异常, 注销, 未激活, 待处理, 审核消息, 违规处罚, 禁言"),
    ),
    "用户(?:已|被){0,2}(?:封|禁)",
    _beside("(?:管理|审核)员?的?(?:消息|通知|警告)", "[待未需请先].{0,4}(?:处理|确认|读|查看)"),
)
_UNITS = _of(
    """
    credits?, balances?, (?<!disk )quotas?, funds?, fast (?:gpu )?(?:hours?|time|minutes?|mode), relax hours?,
    gpu (?:hours?|time|minutes?), allowance, (?<!data )points(?! (?:in|of|per|for) (?:the |each )?(?:mask|area)),
    (?<!memory )(?<!disk )(?<!cpu )(?<!gpu )usage, hours
    """
)
_SPENT = _of(
    """
    insufficient, not enough, not sufficient, exhaust(?:ed|ion)?, r[au]n out, running out, used up,
    used (?:up )?all, out of, deplet(?:ed|ion), lack(?:s|ing)?, too low, low, empty, zero, negative, overdrawn,
    expired, exceed(?:ed|s)?, (?:dont|doesnt|not) have (?:enough|sufficient|any), limit (?:reached|exceeded)
    """
)
_CREDITS: Final = _Any(
    _near(_UNITS, _SPENT),
    # "No credits were charged" says the contrary.
    rf"\bno (?:more )?(?:\w+ )?(?:{_UNITS})\b"
    r"(?! (?:\w+ )?(?:w(?:ere|as|ill)|are|is|have|has|charged|deducted|used|spent))",
    rf"\b0 (?:{_UNITS}) (?:left|remaining|available)\b|\b(?:{_UNITS}) (?:left|remaining|available) 0\b",
    rf"\b(?:{_UNITS})(?: \w+)? 0$|\b(?:buy|purchase|get|add) (?:more|additional|extra) (?:{_UNITS})\b",
    _word("upgrade (?:is )?(?:required|needed), (?:not|un) ?subscribed, top up, recharge, billing hard limit, unpaid"),
    _word("payment (?:required|failed|overdue|method), past due"),
    _near(
        _of(
            """
            subscri(?:ption|be|bed|bers?|ptions), memberships?, (?<!execution )(?<!query )plan, trial(?! run),
            (?:your|this|the|current|higher|paid|free) tier
            """
        ),
        _of(
            """
            required?, requires, expired, expires, cancel(?:l?ed|lation), paused, ended, inactive, lapsed,
            renew(?:al)?, upgraded?, needed, need, overdue, over, not active, no, without, terminated, must,
            please, does not include, not included, not available, not have, dont have
            """
        ),
    ),
    _beside(
        _of(
            """
            余额, 额度, 积分, 点数, 配额, (?:快速|gpu)(?:时长|时间|模式|小时), 时长, 绘图次数, 剩余次数, 钱包, 资金,
            credits?
            """
        ),
        _of("不足, 用完, 用尽, 耗尽, 没有, 已无, 不够, 为零, 为0, 超出, 超额, 透支, 已达上限"),
    ),
    _of("欠费, 未订阅, 充值, 无可用(?:余额|额度|积分|次数)"),
    _beside(
        _of("订阅, 会员, 套餐, 试用, 服务期"),
        _of("过期, 到期, 失效, 取消, 暂停, 需要, 未开通, 未购买, 没有, 无效, 终止, 结束, 升级, 续费, 续订"),
    ),
)
_QUEUE: Final = _Any(
    _near(
        r"queues?|concurren\w+|slots?|job limits?",
        r"full|exceed\w*|limits?|reached|too many|no free|in use|busy|saturated",
        5,
    ),
    _near("maximum|max|too many|limit(?:ed)?", "jobs|tasks|requests|generations at once|concurrent"),
    _word(r"rate (?:limit(?:s|ed|ing)?|exceeded), throttl\w+, slow down, at (?:full |max |maximum )?capacity"),
    _word("too (?:many (?:requests|calls|attempts|submissions|messages)|frequent|quickly|fast)"),
    _beside("队列|排队|并发|任务数量?|同时进行|通道", "满|上限|超过|超出|过多|限制|超限|繁忙"),
    "(?:请求|操作|提交|调用|访问)(?:过于|太|过)?(?:频繁|过快|过多)|频率(?:限制|过高|超限)|限流|任务过多",
)
_PARAMETERS: Final = _Any(
    _near(
        _of(
            """
            parameters?, params?, arguments?, options?, fields?, prompts?, links?, urls?, aspect ratios?,
            ratios?, zoom(?: ratio)?, scale, (?:image|invalid) index, inputs?, requests?,
            image (?:number|format|type|size)s?, task ids?, job ids?, masks?, width, height, formats?,
            dimensions?
            """
        ),
        _of(
            """
            invalid, illegal, unrecogni[sz]ed, unknown, unsupported, not supported, malformed, bad, wrong,
            incorrect, missing, required, out of (?:range|bounds), must (?:be|not), should be,
            not (?:a )?valid, duplicated?, cannot be (?:empty|blank|null), is empty, exceeds?,
            too (?:long|short|large|small|big), not allowed
            """
        ),
        3,
    ),
    _near("images?|pictures?", "too (?:large|small|big)", 2),
    _word(r"invalid value for, values? (?:\w+ ){0,3}?(?:is|are) (?:not valid|invalid), validation (?:error|failed)"),
    _word("duplicate images, (?:param(?:eter)?|argument)s? errors?, empty prompt"),
    _beside(
        _of("参数, 取值, 数值, 比例, 提示词, 链接, 请求体, 字段, 图片地址, 图片格式, 图片大小, 尺寸, 格式, 缩放"),
        _of(
            """
            错误, 无效, 不合法, 非法, 有误, 缺少, 缺失, 不能为空, 为空, 必填, 超出范围, 超出限制, 不支持, 过长, 过短,
            过大, 过小, 太[长短大小], 不正确, 不存在, 校验失败
            """
        ),
    ),
)

_TRADITIONAL: Final = str.maketrans(
    "違規審內圖詞賬帳號戶額餘積點訂閱會員過滿隊參數無誤錯請頻並發凍結暫鎖異續費連鏈務絕觸類區準則範圍擋攔遮蔽適雜關鍵長這錢時間處須檢測應訊畫進達貼結",
    "违规审内图词账账号户额余积点订阅会员过满队参数无误错请频并发冻结暂锁异续费连链务绝触类区准则范围挡拦遮蔽适杂关键长这钱时间处须检测应讯画进达贴结",
)

_NO_ZOOM: Final = _Any(
    _near(
        "zoom(?:ing)? ?out|outpaint(?:ing)?|zoom (?:button|action|operation|feature|function)s?",
        "not (?:available|supported|possible|allowed|enabled|found|offered)|unavailable|unsupported|cannot|disabled",
    ),
    r"\bno (?:zoom|outpaint)\w*(?: \w+)? (?:action|button|option|operation)s?\b",
    _near("zoom(?:ing)?|zoom ?out|outpaint(?:ing)?", "v ?8(?: \\d)?|version 8(?: \\d)?", 6),
    _beside("变焦|缩放功能|缩小|扩图|外扩", "不支持|不可用|无法使用|没有"),
)


def meaning_of(text: str, code: str | None = None) -> Meaning | None:
    """What a vendor's text about a failure means; None where it speaks of nothing that is known here.

    The account's own trouble goes before the content: a message of the moderators to the account is not about this
    prompt. What the account is threatened with does not count.

    Args:
        text: the vendor's sentence or sentences.
        code: the vendor's own code, which may be a word (`moderation_blocked`).
    """
    sentences = [*_sentences(code or ""), *_sentences(text)]
    if any(_is_account(one) for one in sentences):
        return ACCOUNT
    if any(_CREDITS.search(one) and not _is_content(one) for one in sentences):
        return CREDITS
    if any(_is_content(one) for one in sentences):
        return CONTENT
    if any(_NO_ZOOM.search(one) and not _OUTAGE.search(one) for one in sentences):
        return NO_ZOOM
    if any(_QUEUE.search(one) for one in sentences):
        return QUEUE
    return PARAMETERS if any(_PARAMETERS.search(one) and not _OUTAGE.search(one) for one in sentences) else None


def _is_account(sentence: str) -> bool:
    return _ACCOUNT.search(sentence) is not None and not _PERHAPS.search(sentence) and not _QUEUE.search(sentence)


def _is_content(sentence: str) -> bool:
    if _CONTENT.search(sentence) is None or _OUTAGE.search(sentence) or _PASSED.search(sentence):
        return False
    return _CERTAIN.search(sentence) is not None or _TECHNICAL.search(sentence) is None


def _sentences(text: str) -> list[str]:
    """The sentences in lower case and simplified characters, their words a space apart and without punctuation."""
    text = unicodedata.normalize("NFKC", text[:MAX_JUDGED]).translate(_TRADITIONAL)
    text = "".join(char for char in text if unicodedata.category(char) != "Cf")
    # A prompt that is quoted back is the client's text and not the vendor's reason.
    text = re.sub(r"(?i)\bprompt\W{0,3}([\"'`])(?=\S).+?\1", "prompt", text)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).casefold()
    text = re.sub(r"(?<=\w)['\u2019](?=\w)", "", text)
    found = []
    for part in re.split(r"[.!?;。](?=\W|$)|[。!?;\n|]", text):
        words = " ".join(re.sub(r"[\W_]+", " ", part).split())
        found.append(re.sub(r"(?<=[\u3400-\u9fff]) (?=[\u3400-\u9fff])", "", words))
    return [one for one in found if one]
