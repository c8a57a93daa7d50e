"""Reports: runs side by side, what they reached and cost, which is best and why; as an HTML page and as Markdown."""
