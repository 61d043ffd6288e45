"""Makes the documentation's site of the pages that are there, and looks at what has been made."""
