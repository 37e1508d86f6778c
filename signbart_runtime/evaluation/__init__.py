"""What a model says of labelled clips."""
