"""The groups of operations a World offers: one module per noun, no rules and no database."""
