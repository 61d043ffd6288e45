"""Applications: asked, prepared, quiesced, resumed, verified."""
