"""The neural modules, their caches, sampling, and the official checkpoint layout."""
