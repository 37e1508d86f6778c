"""Random changes to training clips: which frames are shown (`frames`), and where points lie."""
