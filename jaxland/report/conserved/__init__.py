"""What a report says of conserved weights: sentences, figures, sections."""
