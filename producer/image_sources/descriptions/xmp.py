"""XMP packets: `dc:description`, beside what a packet has already."""

from __future__ import annotations

import io
import re
from typing import Final
from xml.etree import ElementTree

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC: Final = "http://purl.org/dc/elements/1.1/"
_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_EMPTY: Final = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    f'xmlns:rdf="{_RDF}"><rdf:Description rdf:about=""/></rdf:RDF></x:xmpmeta>'
)
_BEGIN: Final = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_END: Final = b'\n<?xpacket end="w"?>'
#: Characters that XML cannot have.
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_GENERATED_PREFIX: Final = re.compile(r"ns\d+")


def with_description(packet: bytes | None, text: str) -> bytes:
    """Return a packet with this default description; raises ValueError for a damaged packet."""
    source = packet.strip(b"\0 \n\r\t") if packet else _EMPTY.encode()
    root = _parse(source)
    rdf = root if root.tag == f"{{{_RDF}}}RDF" else root.find(f"{{{_RDF}}}RDF")
    if rdf is None:
        raise ValueError("an XMP packet without rdf:RDF")
    node = rdf.find(f"{{{_RDF}}}Description")
    if node is None:
        node = ElementTree.SubElement(rdf, f"{{{_RDF}}}Description", {f"{{{_RDF}}}about": ""})
    for description in rdf.iter(f"{{{_RDF}}}Description"):
        for old in description.findall(f"{{{_DC}}}description"):
            description.remove(old)
    languages = ElementTree.SubElement(node, f"{{{_DC}}}description")
    choices = ElementTree.SubElement(languages, f"{{{_RDF}}}Alt")
    entry = ElementTree.SubElement(choices, f"{{{_RDF}}}li", {_LANGUAGE: "x-default"})
    entry.text = _NO_XML.sub("", text)
    body: bytes = ElementTree.tostring(root, encoding="utf-8")
    return _BEGIN + body + _END


def description_of(packet: bytes) -> str | None:
    """Return the default description of a packet; None if it has none or is damaged."""
    try:
        root = _parse(packet.strip(b"\0 \n\r\t"))
    except ValueError:
        return None
    for description in root.iter(f"{{{_DC}}}description"):
        texts = list(description.iter(f"{{{_RDF}}}li"))
        default = [text for text in texts if text.get(_LANGUAGE) == "x-default"]
        for text in default or texts:
            if text.text and text.text.strip():
                return text.text.strip()
    return None


def _parse(packet: bytes) -> ElementTree.Element:
    """Parse a packet, and register its prefixes, so that they are written again."""
    for prefix, uri in (("rdf", _RDF), ("dc", _DC), ("x", "adobe:ns:meta/")):
        ElementTree.register_namespace(prefix, uri)
    root: ElementTree.Element | None = None
    try:
        for event, value in ElementTree.iterparse(io.BytesIO(packet), ("start", "start-ns")):
            if event == "start":
                root = value if root is None else root
            elif value[0] and not _GENERATED_PREFIX.fullmatch(value[0]):
                ElementTree.register_namespace(*value)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"a damaged XMP packet: {error}") from None
    assert root is not None
    return root
