"""Alignment: evaluate a vision-language model's answer, then correct it."""
