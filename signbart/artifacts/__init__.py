"""What an artifact carries and what it is made of, as a file. Nothing here runs a model."""
