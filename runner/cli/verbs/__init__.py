"""What `runner` does besides training, one module a verb: `runner VERB …` calls its `main`."""
