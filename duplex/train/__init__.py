"""Synthesis of training speech, losses and training stages. Nothing else in duplex imports this folder."""
