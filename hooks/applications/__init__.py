"""Applications: how each is found, quiesced, resumed, and verified in its snapshot."""
