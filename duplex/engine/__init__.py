"""Batched, stateless model work over branches: hear, prefill, listen, reply, speak."""
