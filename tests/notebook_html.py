"""Reads the HTML of a result, and checks that it is complete and has no scripts."""

from html.parser import HTMLParser

EMPTY = {"img", "path", "polyline", "circle", "rect"}  # elements without an end tag


class NotebookHtml(HTMLParser):
    """The elements and the text of an output.

    Attributes:
        tags: Names of the elements.
        sources: Addresses of the images.
        texts: Texts outside the style.
    """

    def __init__(self, html: str | None) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        assert html is not None
        self.feed(html)
        self.close()
        assert self._open == []
        assert not {"script", "link", "iframe", "object", "form"} & {*self.tags}
        assert all(source.startswith("data:image/jpeg;base64,") for source in self.sources)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag == "img":
            assert dict(attrs)["alt"]
            self.sources.append(dict(attrs)["src"] or "")
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1] != "style":
            self.texts.append(data)
