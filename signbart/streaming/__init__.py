"""Signs in a stream: windows, the rule that makes events of them, and how well that spots signs."""
