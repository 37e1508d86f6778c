"""The page that runs an artifact in a browser: its files, served or written into a folder."""
