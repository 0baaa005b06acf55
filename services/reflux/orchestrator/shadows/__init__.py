"""Shadows: copies of pure calls that a version gets beside the one that answers, and how they compare.

The orchestrator draws who gets a copy, so it knows which calls have one; Envoy makes the copy and throws its
reply away; the version that got it reports its output here; `desk` brings the two together. Nothing of it
reaches a run, and losing it costs a comparison.
"""
