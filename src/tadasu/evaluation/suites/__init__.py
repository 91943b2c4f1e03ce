"""Prompts with the property that is measured on them, from files of any common layout."""
