"""What the figures are held against: the same job done another way."""
