"""Edits on diffusers pipelines: where text enters, fold and unfold, run-time maps, LoRA export."""
