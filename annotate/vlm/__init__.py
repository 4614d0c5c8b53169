"""Vision-language models: pictures and a question in, words out. What is asked is for others to say."""
