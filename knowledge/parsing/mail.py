"""E-mail: who wrote to whom and when, and the message. What is attached is named, not read."""

from __future__ import annotations

from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

from knowledge.parsing.builder import Builder
from knowledge.parsing.decode import decoded
from knowledge.parsing.markup import add_html
from knowledge.parsing.parsed import Limits, Parsed
from knowledge.parsing.texts import is_item

_FIELDS = ("From", "To", "Cc", "Date")


def read_mail(content: bytes, limits: Limits) -> Parsed:
    message = BytesParser(EmailMessage, policy=policy.default).parsebytes(content)
    builder = Builder(limits)
    builder.title = str(message.get("Subject", ""))
    builder.add("heading", builder.title, 1)
    fields = [(name, str(message[name])) for name in _FIELDS if message[name]]
    builder.add("paragraph", "\n".join(f"{name}: {' '.join(value.split())}" for name, value in fields))
    body = message.get_body(preferencelist=("plain", "html"))
    if isinstance(body, EmailMessage):
        text = _text_of(body)
        if body.get_content_type() == "text/html":
            add_html(builder, text)
        else:
            _add_plain(builder, text)
    attached = [each.get_filename() or each.get_content_type() for each in message.iter_attachments()]
    if attached:
        builder.warn("attachments_left_out")
        for name in attached:
            builder.add("list_item", name)
    return builder.done("message/rfc822")


def _text_of(part: EmailMessage) -> str:
    """By the encoding it declares, where that is one; many messages in Chinese say GB 2312 and are more."""
    payload = part.get_payload(decode=True)
    return decoded(payload, part.get_content_charset("")) if isinstance(payload, bytes) and payload else ""


def _add_plain(builder: Builder, text: str) -> None:
    for paragraph in text.split("\n\n"):
        for line in _joined_items(paragraph):
            builder.add("list_item" if is_item(line) else "paragraph", line)


def _joined_items(paragraph: str) -> list[str]:
    """The lines of a paragraph as one, except that an item of a list begins another."""
    found: list[str] = []
    for line in paragraph.split("\n"):
        if found and not is_item(line):
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return found
