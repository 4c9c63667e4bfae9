"""Cut a text into statements."""

import re

# What a semicolon may stand in without ending a statement; what is left open reaches to the end.
QUOTED = r"'(?:[^'\\]|\\.)*(?:'|\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\Z)|`[^`]*(?:`|\Z)"
COMMENT = r"--[^\n]*|/\*.*?(?:\*/|\Z)"
TOKEN = re.compile(f"(?P<quoted>{QUOTED})|(?P<comment>{COMMENT})|;", re.DOTALL)


def split(text: str) -> tuple[list[str], str]:
    """Cut a text at the semicolons that stand in no string, name or comment.

    Returns:
        The statements that a semicolon ends, without it, and what is left behind the last one.
    """
    found, begin = list[str](), 0
    for token in TOKEN.finditer(text):
        if token.group() == ";":
            found.append(text[begin : token.start()].strip())
            begin = token.end()
    return [statement for statement in found if not is_empty(statement)], text[begin:]


def all_of(text: str) -> list[str]:
    """Return every statement, the last one with or without a semicolon."""
    found, rest = split(text)
    return found if is_empty(rest) else [*found, rest.strip()]


def is_empty(text: str) -> bool:
    """Tell whether nothing but comments and space is there."""
    return not re.sub(COMMENT, "", text, flags=re.DOTALL).strip()
