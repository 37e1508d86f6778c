"""Recordings: `Clip`, `ClipSet`, and the on-disk forms that they are read from and written to."""
