"""HTML: what a reader sees, and nothing else."""

from __future__ import annotations

from hypothesis import given, strategies as st

from hola.retrieval.readers.html import declared_encoding, read_html

PAGE = """<!doctype html><html><head><title> Tea &amp;
 coffee </title><style>p { color: red }</style><script>var secret = "<p>no</p>";</script></head>
<body><nav><a href="/">Home</a><nav>inner</nav> more</nav><h1>Tea</h1><p>Green   tea is <b>good</b>.
<br>Very.</p><h2>How</h2><ul><li>Warm</li><li>Wait</li></ul><pre>x = 1
  y = 2</pre><table><tr><td>a</td><td>b</td></tr></table><svg/><h1>Coffee</h1>Loose text
<p>Unclosed<p>next</body></html>"""


def test_a_page():
    made = read_html(PAGE, "s")
    assert made.title == "Tea & coffee"
    assert [(block.heading, block.text) for block in made.blocks] == [
        (("Tea",), "Green tea is good.\nVery."),
        (("Tea", "How"), "- Warm\n- Wait"),
        (("Tea", "How"), "x = 1\n  y = 2"),
        (("Tea", "How"), "a | b"),
        (("Coffee",), "Loose text"),
        (("Coffee",), "Unclosed"),
        (("Coffee",), "next"),
    ]


def test_the_first_heading_is_the_title_of_a_page_without_one():
    made = read_html("<h1>Head</h1><p>text", "s")
    assert (made.title, made.blocks[0].heading) == ("Head", ())


def test_the_charset_of_the_head_is_found():
    assert declared_encoding(b'<meta charset="iso-8859-1">') == "iso-8859-1"
    equiv = b"<meta http-equiv='content-type' content='text/html; charset=cp1252'>"
    assert declared_encoding(equiv) == "cp1252"
    assert declared_encoding(b"<p>no charset here") == ""


TAGS = st.sampled_from(
    ["<p>", "</p>", "<h1>", "</h2>", "<li>", "<nav>", "</nav>", "<!--", "-->", "<script>", "<td>",
     "</title>", "<title>", "&amp;", "&#0;", "&#xD800;", "<pre>", "</pre>", "<br/>", "<a", "x", "<"]
)  # fmt: skip


@given(parts=st.lists(TAGS, max_size=40))
def test_any_soup_of_tags_is_read(parts):
    made = read_html("".join(parts), "s")
    for block in made.blocks:
        assert block.text.strip()
        block.text.encode()
