"""A small application and its plugin, done rightly and in many wrong ways, for the contract's own tests."""
