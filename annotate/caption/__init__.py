"""What is to be seen in a clip, in words that hold for every camera path through it."""
