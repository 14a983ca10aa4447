# SPDX-License-Identifier: Apache-2.0
"""Text in the language of manual pages, man(7)."""

import re
from collections.abc import Iterable

__all__ = ["bold", "entry", "escape", "inline", "italic", "paragraphs"]

_INLINE = re.compile(r"`(?P<code>[^`]+)`|\[(?P<link>[^]]+)\]\([^)]*\)")


def escape(text: str) -> str:
    """Return text that stands for itself, and can be copied from the page."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("~", r"\(ti")
    text = text.replace("^", r"\(ha").replace("`", r"\(ga")
    return re.sub(r"(?m)^([.'])", r"\\&\1", text)


def bold(text: str) -> str:
    """Return text to be typed as it is."""
    return rf"\fB{escape(text)}\fR"


def italic(text: str) -> str:
    """Return text that stands for something else."""
    return rf"\fI{escape(text)}\fR"


def inline(text: str) -> str:
    """Return one paragraph whose code and links are in Markdown."""
    parts, end = [], 0
    for match in _INLINE.finditer(text):
        parts.append(escape(text[end : match.start()]))
        parts.append(bold(match["code"]) if match["code"] else italic(match["link"]))
        end = match.end()
    return "".join([*parts, escape(text[end:])])


def paragraphs(text: str) -> str:
    """Return paragraphs that stand one below the other."""
    return "\n.PP\n".join(inline(" ".join(each.split())) for each in text.split("\n\n"))


def entry(term: str, *texts: str) -> Iterable[str]:
    """Return the lines of a term, which is roff already, and of what it means."""
    yield ".TP"
    yield term
    yield "\n.br\n".join(inline(" ".join(text.split())) for text in texts if text) or r"\&"
