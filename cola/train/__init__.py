"""The tutorial's training loop, what makes it fast, and what lets it be killed."""
