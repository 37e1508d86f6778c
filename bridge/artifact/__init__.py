"""An artifact: how it is run, what is inside it, what it says of itself."""
