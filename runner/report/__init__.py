"""Runs side by side: what they reached, what they cost, which is the best and why; as a page and as Markdown."""
