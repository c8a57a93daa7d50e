"""Reports: runs side by side with results and costs, which is best and why; as an HTML page and as Markdown."""
