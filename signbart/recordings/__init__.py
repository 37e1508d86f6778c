"""Recordings: `clip.Clip`, `clip.ClipSet`, and the forms that they are read from."""
