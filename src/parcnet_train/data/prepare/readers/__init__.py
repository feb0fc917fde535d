"""Readers of annotation formats, one module each; they return an `AnnotatedSet`."""
