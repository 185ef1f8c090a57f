"""The noise a clip starts from, the noise of its steps, and passes that begin anew."""
