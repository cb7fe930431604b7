"""Vocabularies of single fields on the same kernel. :mod:`decidable.domains.llm` chooses language models."""
