"""GNU tar."""
