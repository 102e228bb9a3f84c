"""Weights to artifacts: an open_clip checkpoint and model_repository/ become a served repository.

variants ──> checkpoint ──> encoders (folding) ──> tracing ──> verification ──> publishing (configs, manifest)
"""
