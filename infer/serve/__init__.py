"""The live server: an image and a prompt become a world that a visitor drives through with the keyboard."""
