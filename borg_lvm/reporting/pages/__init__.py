"""Pages of HTML with drawings, of what was run."""
