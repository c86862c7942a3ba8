"""Files into documents: text, Markdown, HTML, PDF and JSON lines, whatever is in them."""
