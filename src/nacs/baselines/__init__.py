"""Rivals, one family a file, with the calling convention of our models."""
