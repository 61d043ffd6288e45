"""Pure: text, JSON and pictures, made from data."""
