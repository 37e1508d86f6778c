"""What a run is: its dataclasses (`schema`), and how they are read from YAML (`reading`)."""
