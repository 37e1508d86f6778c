"""How long model files take: whoever made them."""
