"""Dates in text in words of `strptime`: one blank, English months; 2020Q1 as its first day."""

import datetime
import re

MONTH_NAMES = {
    word: names.split()[0].title()
    for names in (
        "jan january januar jänner janvier enero gennaio janeiro januari "
        "styczeń stycznia янв январь января ocak",
        "feb february februar février fevrier febrero febbraio fevereiro februari "
        "luty lutego фев февр февраль февраля şubat",
        "mar march märz maerz mrz mars marzo março maart marzec marca marts март марта mart mrt",
        "apr april avril abril aprile kwiecień kwietnia апр апрель апреля nisan",
        "may mai mayo maggio maio mei maj maja май мая mayıs",
        "jun june juni juin junio giugno junho czerwiec czerwca июн июнь июня haziran",
        "jul july juli juillet julio luglio julho lipiec lipca июл июль июля temmuz",
        "aug august août aout agosto augustus sierpień sierpnia augusti авг август августа ağustos",
        "sep sept september septembre septiembre settembre setembro "
        "wrzesień września сен сент сентябрь сентября eylül",
        "oct october oktober okt octobre octubre ottobre outubro "
        "październik października окт октябрь октября ekim",
        "nov november novembre noviembre novembro listopad listopada ноя нояб ноябрь ноября kasım",
        "dec december dezember dez décembre decembre diciembre dicembre dezembro "
        "grudzień grudnia des desember дек декабрь декабря aralık",
    )
    for word in names.split()
}
WEEKDAY_PREFIX = re.compile(
    r"^(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|mon|tue|wed|thu|fri|sat|sun"
    r"|montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag|mo|di|mi|do|fr|sa|so)\.? ",
    re.IGNORECASE,
)
FILLER_WORDS = re.compile(
    r"(?<=\d)(?:st|nd|rd|th|\.)?(?: de| of| at| um)?(?= )|(?<=[a-z]) de(?= \d)"
)
# most are as they should be: the short way
PLAIN_DATE = re.compile(r"(?:[-\d/:+TZ]|\.(?! )| (?! ))*")
DOTTED_CLOCK = re.compile(r"(?i)(?<=\d[\d,]) (\d\d?)\.(\d\d)(?:\.(\d\d))?(?= uhr$|$)")
WORDS_AT_END = re.compile(r"(?i)(?<=\d) ?(?:uhr|r|roku|г|года)$")  # o'clock, of the year
DAY_OF_SAS = re.compile(r"(\d\d?)([A-Za-z]{3})(\d{4})(?:[: ](?=\d)|$)")  # 11MAR2020:14:12
DAY_OF_EAST_ASIA = re.compile(r"(\d{4})[年년] ?(\d\d?)[月월] ?(\d\d?)[日일]")
QUARTER_TEXT = re.compile(r"(?i)(\d{4})[-/ .]?q([1-4])|q([1-4])[-/ .]?(\d{4})")
WEEK_TEXT = re.compile(
    r"(?i)(\d{4})[-/ ]?(?:w|cw|kw) ?(\d\d?)(?:-?([1-7]))?|(?:w|cw|kw) ?(\d\d?)[-/ ](\d{4})"
)


def plain_date(text: str) -> str:
    """A date as its style is looked for. A quarter and a week are their first day.

    >>> plain_date("Sunday, December 26th, 2021 at 3:05 p.m."), plain_date("26. Mai 2021, 15:36")
    ('Dec 26 2021 3:05 PM', '26 May 2021 15:36')
    >>> plain_date("2020Q2"), plain_date("2020-W05"), plain_date("2020年3月11日")
    ('2020-04-01', '2020-01-27', '2020-03-11')
    """
    text = text.rstrip(".")
    if " " in text and "." in text:
        text = DOTTED_CLOCK.sub(lambda found: " " + ":".join(filter(None, found.groups())), text)
    if PLAIN_DATE.fullmatch(text):
        return text
    text = re.sub(r"(?<=:\d\d),(?=\d)", ".", WORDS_AT_END.sub("", text))  # of a second
    text = DAY_OF_EAST_ASIA.sub(lambda found: "{}-{:0>2}-{:0>2}".format(*found.groups()), text)
    text = DAY_OF_SAS.sub(r"\1-\2-\3 ", text, count=1)
    text = WEEKDAY_PREFIX.sub("", " ".join(text.replace(",", " ").split()))
    text = re.sub(r"(?<=\d)\. (?=\d{1,2}(?:\.|$)|\d{4})", ".", text)  # 26. 12. 2021
    text = FILLER_WORDS.sub("", text)
    text = re.sub(r"(?i)(?<=\d) ?([ap])\.? ?m\b\.?", lambda found: f" {found[1].upper()}M", text)
    text = re.sub(r"([^\W\d_]{3,})\.?", lambda f: MONTH_NAMES.get(f[1].lower(), f[0]), text)
    return _first_day(text)


def plain_style(style: str) -> str:
    """A style for `plain_date`; those that earlier versions wrote may be for other texts."""
    for old, new in {",": "", "%a ": "", "%B": "%b", "%M%p": "%M %p"}.items():
        style = style.replace(old, new)
    return style


def _first_day(text: str) -> str:
    if quarter := QUARTER_TEXT.fullmatch(text):
        year, number = quarter[1] or quarter[4], int(quarter[2] or quarter[3])
        return f"{year}-{3 * number - 2:02d}-01"
    if week := WEEK_TEXT.fullmatch(text):
        year, number = int(week[1] or week[5]), int(week[2] or week[4])
        try:
            return datetime.date.fromisocalendar(year, number, int(week[3] or 1)).isoformat()
        except ValueError:
            return text
    return text
