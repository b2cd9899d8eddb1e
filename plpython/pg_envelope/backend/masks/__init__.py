"""Shows a role a mask in the place of a protected value: docs/masks.md."""
