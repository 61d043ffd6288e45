"""Applications: how each is found, quiesced, resumed and looked at in its snapshot."""
