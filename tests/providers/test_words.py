"""What vendors' texts about failures mean, judged by families of words."""

import errno
import os

import pytest

from outpaint_mcp.providers.words import ACCOUNT, CONTENT, CREDITS, PARAMETERS, QUEUE, Meaning, meaning_of

MEANT = {
    "content": (
        CONTENT,
        [
            "Banned prompt detected",
            "Image denied",
            "Request cancelled due to output filters",
            "Sorry! Our AI moderators feel your prompt might be against our community standards.",
            "The word `blood` is banned. Circumventing this filter may result in your access being revoked.",
            "Your image was refused: it breaks the house rules",
            "This generation was blocked by our filters. No credits were charged.",
            "Prompt flagged. Repeated violations may lead to your account being suspended.",
            "The photo you uploaded is not allowed",
            "prompt includes prohibited terms: weapon",
            "Sexual content",
            "Rejected by the safety system",
            "The picture you sent was declined",
            "Your image did not pass our content review",
            "The parameter prompt contains sensitive words",
            "Ｉｍａｇｅ　Ｄｅｎｉｅｄ！",  # noqa: RUF001
            "INPUT_IMAGE_SENSITIVE",
            "ContentPolicyViolation",
            "可能包含敏感词",
            "图片被拒绝",
            "您输入的内容涉嫌违规",
            "审核未通过",
            "提示詞包含違禁內容",
            "敏 感 词",
            "输出图片被过滤",
            "生成的内容不符合规定",
        ],
    ),
    "account": (
        ACCOUNT,
        [
            "Pending mod message",
            "You have a pending moderation message. Please acknowledge it before you continue.",
            "Blocked",
            "You have been blocked from accessing Midjourney for 24 hours",
            "Your account has been suspended for violating our content policy",
            "Your access to Midjourney has been revoked",
            "账号已被封禁",
            "帳號已凍結",
            "有待处理的审核消息",
            "请先确认管理员的通知",
            "A message from a moderator is waiting: please read it",
        ],
    ),
    "credits": (
        CREDITS,
        [
            "Subscription required",
            "Plan Cancelled",
            "Your subscription has expired",
            "Credits exhausted",
            "You've run out of hours!",
            "No fast hours left",
            "You exceeded your current quota, please check your plan and billing details",
            "insufficient_user_quota",
            "Fast hours: 0",
            "余额不足",
            "快速时长已耗尽",
            "會員已到期",
        ],
    ),
    "queue": (
        QUEUE,
        [
            "Queue full",
            "The waiting queue is full, try again later",
            "You have reached the maximum number of concurrent jobs",
            "Your account is limited to 3 concurrent jobs",
            "rate_limit_exceeded",
            "队列已满",
            "當前排隊人數過多",
            "请求过于频繁",
        ],
    ),
    "parameters": (
        PARAMETERS,
        [
            "Invalid parameter",
            "Unrecognized parameter(s): `--foo`",
            "The aspect ratio is not valid",
            "Invalid link",
            "Prompt too long",
            "参数错误",
            "提示词不能为空",
            "提示词太长",
            "圖片鏈接無效",
        ],
    ),
    "nothing": (
        None,
        [
            "",
            "Job failed",
            "Task timeout",
            "Access denied",
            "IP blocked",
            "Internal server error",
            "502 Bad Gateway",
            "Request blocked by firewall",
            "Blocked by CORS policy: no Access-Control-Allow-Origin header",
            "Refused to load the image because it violates the following Content Security Policy directive",
            'null value in column "prompt" violates not-null constraint',
            "Failed to download image: access denied",
            "Error initializing output filters: ffmpeg",
            "inappropriate ioctl for device",
            "The moderation service timed out",
            "Safety checker failed to load",
            "Moderation passed. Generation failed.",
            'Failed for the prompt "a nude in a banned book": worker crashed',
            "CUDA out of memory",
            "memory usage limit exceeded",
            "too many open files",
            "connection pool is full",
            "execution plan cancelled",
            "list index out of range",
            "use the standard AES class instead",
            "tool_result blocks do not match any in the previous message",
            "the field is case-sensitive",
            "内容审核服务超时",
            "图片处理失败",
            "下载图片失败",
            "服务器拒绝连接",
            "大小写敏感的字段不匹配",
            "线程池已满",
            "内存不足",
            "系统繁忙",
        ],
    ),
}


@pytest.mark.parametrize("meaning", MEANT)
def test_a_text_is_understood_by_its_family_of_words(meaning: str) -> None:
    wanted, texts = MEANT[meaning]
    judged: dict[str, Meaning | None] = {text: meaning_of(text) for text in texts}
    assert {text: got for text, got in judged.items() if got is not wanted} == {}


def test_what_the_system_says_of_its_own_errors_means_nothing() -> None:
    said = {os.strerror(number) for number in errno.errorcode}
    assert {text for text in said if meaning_of(text) not in (None, PARAMETERS)} == set()


def test_a_code_that_is_a_word_counts_like_the_text() -> None:
    assert meaning_of("The request was refused.", "moderation_blocked") is CONTENT
    assert meaning_of("no", "10042") is None
