"""The written forms of each type of personal data: where one may stand in a stretch of text.

Every pattern is linear: repeats that follow each other share no character, or are possessive.
"""

import re

EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    r"[A-Za-z]{2,24}(?![\w-])",
    re.ASCII,
)
EMAIL_AT = re.compile(r"[\w.+-]@[A-Za-z0-9]", re.ASCII)
EMAIL_REACH = (65, 320)  # RFC 5321: 64 octets before the @, 255 after it

IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])", re.ASCII)
IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}(?![\w:])", re.ASCII)
IPV6_HINT = re.compile(r":[0-9A-Fa-f]{0,4}:")  # a literal first, so the search is a memchr
VERSION = re.compile(r"(?:version|release|ver\.?|\bv)[ =:]*$", re.IGNORECASE)  # v 1.2.3.4

IBAN = re.compile(
    r"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}(?:[A-Za-z0-9]{11,30}|(?:[ -][A-Za-z0-9]{4}){2,7}"
    r"(?:[ -][A-Za-z0-9]{1,4})?)(?![0-9A-Za-z])"
)
CHINESE_ID = re.compile(
    r"(?<![0-9A-Za-z])[1-8][0-9]{5}(?:18|19|20)[0-9]{2}[01][0-9][0-3][0-9]{4}[0-9Xx](?![0-9A-Za-z])"
)
CARD = re.compile(r"(?<![0-9.,_+-])[1-6][0-9](?:[ -]?[0-9]){10,17}(?![0-9_]|[.,-][0-9])")
ISSUERS = re.compile(r"1800|2131|2[2-7]|3[0-9]|4|5|6")

SSN = re.compile(r"(?<![\w.+-])[0-9]{3}([- ]?)[0-9]{2}\1[0-9]{4}(?![\w]|[.-][0-9])", re.ASCII)
SSN_CUE = re.compile(r"(?:\bssn|social security)\D{0,20}$", re.IGNORECASE)

PHONE = re.compile(
    r"""(?<![\w.+-])(?:
        \+[1-9][0-9]{0,2}(?:[ .-]?(?:\(0\)|\([0-9]{1,4}\)|[0-9]{1,12}+)){1,6}  # +44 20 7946 0396
      | (?:001-|1[-. ])?(?:\([2-9][0-9]{2}\)[ ]?|[2-9][0-9]{2}[-. ])[2-9][0-9]{2}[-.][0-9]{4}
      | (?:86[ -]?)?1[3-9][0-9](?:[ -]?[0-9]{4}){2}                            # 138 0494 2169
      | 0[0-9]{2,4}(?:[ ][0-9]{2,4}){2,3}                                      # 0490 75 40 81
      | 0[0-9]{2,4}[ -][0-9]{6,8}                                              # 0393 1144137
      | [0-9]{2}(?:-[0-9]{2}){3}                                               # 60-56-85-91
      | 0[0-9](?:\.[0-9]{2}){4}                                                # 03.93.92.16.85
      | \([0-9]{2}\)[ ][0-9]{4}[ -][0-9]{4}                                    # (08) 8747 6301
      | \(0[0-9]{2,3}\)[ ]?[0-9]{7,8}                                          # (010) 62345678
      | 400-[0-9]{3}-[0-9]{4}                                                  # a service line
    )(?:x[0-9]{1,5})?(?![\w]|[.-][0-9])""",
    re.VERBOSE | re.ASCII,
)
# Digits in groups are a phone number only where a word beside them says so.
GROUPED = re.compile(
    r"(?<![\w.+-])\(?[0-9](?:[ .()-]{0,2}+[0-9]){6,14}+(?![\w]|[.-][0-9])", re.ASCII
)
PHONE_CUE = re.compile(
    r"(?:\b(?:tele)?phone|\bmobile|\bcell|\bfax|\btel|\bdesk|\bcall(?:ing)?(?: me)?(?: on| at)?"
    r"|\b(?:ring|text|reach|answering|message|messages)(?: me)? (?:on|at|to)|电话|手机|传真)"
    r"(?: (?:number|no\.?))?(?: is)?[^\w\n]{0,3}\n?$",
    re.IGNORECASE,
)
PHONE_CUE_AFTER = re.compile(r"[ -](?:office|fax|mobile|cell|desk)\b", re.IGNORECASE)
DATE = re.compile(r"(?:1[89]|20)[0-9]{2}[-. ][01]?[0-9][-. ][0-3]?[0-9]\b")

# Keys with a mark of their own, as their makers document them: GitHub, Slack, Google, Stripe,
# OpenAI; RFC 7519 for JWT. AWS's have no digit at times (3.6 %), so they have a gate of their own.
KEYS = re.compile(
    r"""(?<![A-Za-z0-9_])(?:
        gh[pousr]_[A-Za-z0-9]{36,255} | github_pat_[A-Za-z0-9_]{22,255}
      | xox[abeoprs]-[0-9A-Za-z-]{10,250} | AIza[0-9A-Za-z_-]{35} | [sr]k_live_[0-9A-Za-z]{16,250}
      | sk-[A-Za-z0-9_-]{20,250}
      | eyJ[A-Za-z0-9_-]{8,8000}+(?:\.[A-Za-z0-9_-]{8,8000}+){2}
    )(?![A-Za-z0-9])""",
    re.VERBOSE,
)
AWS = re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])")
PRIVATE_KEY_MARK = "PRIVATE KEY-----"
PRIVATE_KEY = re.compile(  # a block without its end is masked as far as its base64 goes
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[A-Za-z0-9+/=,:\- \t\r\n\\]{0,20000}?"
    r"-----END [A-Z ]{0,30}PRIVATE KEY-----|[A-Za-z0-9+/=\r\n]{0,20000}+)"
)
ASSIGNED = re.compile(
    r"""[=:][ \t]{0,4}["']?(?:Bearer[ ])?([A-Za-z0-9+/_-]{16,512}+={0,2})(?![\w.(])"""
)
KEY_CUE = re.compile(
    r"(?:key|token|secret|passw(?:or)?d|passwd|pwd|credentials?|authorization|signature)"
    r"""["'\]]{0,2}[ \t]{0,4}$""",
    re.IGNORECASE,
)
