"""A trained model -> answers over HTTP and in the terminal."""
